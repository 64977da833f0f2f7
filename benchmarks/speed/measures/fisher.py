"""Measures Fisher products: what more of them add to the time of an update."""

from typing import Any

from benchmarks.machine import measure_matmul
from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import make_problem
from benchmarks.speed.subjects import CG_ITERATIONS, AgentSubject
from benchmarks.speed.timing import time_in_turns


EXTRA_PRODUCTS = 10
# A shared machine is slow for 5 to 20 s at a time (see `fisher_over_time`): a process
# has to last longer than that, or it tells what its own moment was like.
TIMES_AS_LONG = 10


def few_and_many(cell: Cell) -> tuple[AgentSubject, AgentSubject]:
    """Agents of 10 and of 20 CG iterations, whose critics take a single step."""
    assert cell.size is not None
    problem, samples = make_problem(cell.size), cell.size.samples
    few, many = (
        AgentSubject(
            cell, problem, epochs=1, cg_iterations=count, value_minibatch_size=samples
        )
        for count in (CG_ITERATIONS, CG_ITERATIONS + EXTRA_PRODUCTS)
    )
    return few, many


def measure_fisher(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one Fisher product, CG's vector operations included, and the peak.

    Two agents that differ in CG iterations alone, 10 and 20, are timed in turns; the
    difference over 10 is the product.

    The peak of matrix products is measured by the same process right after them, as a
    shared machine is slower at times, for minutes and for both.
    """
    few, many = few_and_many(cell)
    few_times, many_times = time_in_turns(
        [few, many], TIMES_AS_LONG * settings["seconds"]
    )
    for subject, count in (
        (few, CG_ITERATIONS),
        (many, CG_ITERATIONS + EXTRA_PRODUCTS),
    ):
        assert subject.work()["cg_iterations"] == count
    return {
        "seconds_per_product": [
            (b - a) / EXTRA_PRODUCTS for a, b in zip(few_times, many_times, strict=True)
        ],
        **measure_matmul(cell.device),
    }
