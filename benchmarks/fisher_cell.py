"""Measures Fisher products: what more of them add to the time of an update."""

from typing import Any

from benchmarks.cells import Cell
from benchmarks.machine import measure_matmul
from benchmarks.problems import make_problem
from benchmarks.subjects import CG_ITERATIONS, AgentSubject
from benchmarks.timing import time_in_turns


EXTRA_PRODUCTS = 10


def measure_fisher(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one Fisher product, CG's vector operations included, and the peak.

    Two agents that differ in CG iterations alone, 10 and 20, are timed in turns; the
    difference over 10 is the product. Their critic takes a single step.

    The peak of matrix products is measured by the same process right after them, as a
    shared machine is slower at times, for minutes and for both.
    """
    assert cell.size is not None
    problem = make_problem(cell.size)
    few, many = (
        AgentSubject(
            cell, problem, epochs=1, cg_iterations=CG_ITERATIONS + extra,
            value_minibatch_size=cell.size.samples,
        )
        for extra in (0, EXTRA_PRODUCTS)
    )  # fmt: skip
    few_times, many_times = time_in_turns([few, many], settings["seconds"])
    for subject, count in ((few, CG_ITERATIONS), (many, CG_ITERATIONS + 10)):
        assert subject.work()["cg_iterations"] == count
    return {
        "seconds_per_product": [
            (b - a) / EXTRA_PRODUCTS for a, b in zip(few_times, many_times, strict=True)
        ],
        **measure_matmul(cell.device),
    }
