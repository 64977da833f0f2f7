"""Measures one update cell: first call, steady state, split, memory, error."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.cell import PEERS, Cell
from benchmarks.speed.problems import Problem, flat, make_problem
from benchmarks.speed.subjects import (
    CG_ITERATIONS,
    EPOCHS,
    AgentSubject,
    Subject,
    make_subject,
    precision_has_effect,
)
from benchmarks.speed.timing import (
    count_kernel_launches,
    device_peak_bytes,
    peak_bytes,
    resident_bytes,
    time_in_turns,
    time_once,
)


# An update that takes longer is timed once in each process.
SLOW_SECONDS = 15.0
PEER_MODULES = {"sb3-contrib": "sb3_contrib", "tianshou": "tianshou.algorithm"}


def measure_update(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Time one subject's update.

    The split needs nothing but the public interface: the same update is timed with one
    critic epoch, in turns with the full number. What the other epochs add is the
    critic's slope; ten times the slope is the critic fit, and the rest the policy step
    (with the batch's checks and transfer, and the report).

    Returns:
        `first_seconds` and whether the compilation cache was `cold`; `seconds` and
        `seconds_one_epoch`, raw; `work`; peaks of memory; errors against the reference.
    """
    assert cell.size is not None
    backend = "torch" if cell.subject in PEERS else cell.subject.partition("-")[0]
    on_cpu = cell.device == "cpu"
    if cell.subject == "torch-cudagraphs" and on_cpu:
        return {"skipped": "not run: CUDA graphs need a GPU"}
    if cell.precision != "float32" and not precision_has_effect(
        backend, cell.device, cell.precision
    ):
        return {"skipped": "not run: no effect on this device"}
    problem = make_problem(cell.size)
    # Imported before memory is counted: a framework's own code is not the update's.
    importlib.import_module(PEER_MODULES.get(cell.subject, f"trpo_{backend}"))
    before = resident_bytes()
    cold = _is_empty(settings.get("cache"))
    subject = make_subject(cell, problem)
    first = time_once(subject)
    work = subject.work()
    if cell.mode == "fixed":
        _require_same_work(work)
    error = _errors(subject, cell, problem, settings.get("truth"))
    # Not the first one, which compiles.
    second = time_once(subject)
    memory = {
        "peak_bytes_total": peak_bytes(),
        "peak_bytes": peak_bytes() - before,
        "device_peak_bytes": device_peak_bytes(backend, cell.device),
    }
    launches = None if on_cpu else count_kernel_launches(subject.update)
    short = make_subject(cell, problem, epochs=1)
    # What takes long is timed less often: its neighbours' noise averages out in it.
    turns = {"warm_up": 1, "least": 1} if second > SLOW_SECONDS else {}
    long_times, short_times = time_in_turns(
        [subject, short], settings["seconds"], **turns
    )
    return {
        "first_seconds": first,
        "cold": cold,
        "seconds": long_times,
        "seconds_one_epoch": short_times,
        "work": work,
        "launches": launches,
        **memory,
        **error,
    }


def measure_scaling(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Time and peak memory of one subject's update, large batches included.

    Returns:
        `seconds`, raw; `peak_bytes_total` of the whole process, and
        `device_peak_bytes` that its framework took of an accelerator, or None.
    """
    problem = make_problem(cell.size) if cell.size else None
    assert problem is not None
    subject = make_subject(cell, problem)
    (times,) = time_in_turns([subject], settings["seconds"], warm_up=1, least=1)
    _require_same_work(subject.work())
    return {
        "seconds": times,
        "peak_bytes_total": peak_bytes(),
        "device_peak_bytes": device_peak_bytes(cell.subject, cell.device),
    }


def _is_empty(folder: str | None) -> bool:
    path = Path(folder) if folder else None
    return path is None or not path.exists() or not any(path.rglob("*"))


def _require_same_work(work: dict[str, float]) -> None:
    """All iterations, and a line search that takes its first candidate.

    Raises:
        RuntimeError: this update did other work, so its time can't be compared.
    """
    want = {"cg_iterations": float(CG_ITERATIONS), "candidates": 1.0, "accepted": 1.0}
    if work != want:
        raise RuntimeError(f"expected the fixed work {want}, did {work}")


def measure_truth(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """The same update in float64, whose result goes to the file `settings["truth"]`.

    Computed by PyTorch through the Hessian of KL, a route that no timed row takes.
    """
    assert cell.size is not None
    problem = make_problem(cell.size)
    subject = AgentSubject(
        cell, problem, dtype="float64", fisher_product="kl_hessian"
    )  # fmt: skip
    subject.reset()
    subject.update()
    state = subject.state()
    networks = {name: state[name] for name in problem.weights}
    # Keywords named as the arrays: numpy's savez takes any string.
    np.savez(settings["truth"], allow_pickle=False, **networks)
    return {"work": subject.work()}


def _errors(
    subject: Subject, cell: Cell, problem: Problem, path: str | None
) -> dict[str, float]:
    """Distance from the float64 result over the length of the step, by network."""
    if not path or cell.subject == "sb3-contrib" or cell.mode != "fixed":
        return {}
    with np.load(path) as truth:
        exact = dict(truth)
    got, errors = subject.state(), {}
    # The peers' critics take other steps: no clipping, or the whole batch.
    prefixes = ("policy.",) if cell.subject in PEERS else ("policy.", "value.")
    for prefix in prefixes:
        want = flat(exact, prefix)
        step = np.linalg.norm(want - flat(problem.weights, prefix))
        distance = np.linalg.norm(flat(got, prefix) - want)
        errors[f"error_{prefix.removesuffix('.')}"] = float(distance / step)
    return errors


def split(result: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds of a whole update, of its policy step and of its critic fit.

    Medians; of the differences between neighbours in time, so that drifts cancel.
    """
    whole = float(np.median(result["seconds"]))
    pairs = np.subtract(result["seconds"], result["seconds_one_epoch"])
    critic = min(whole, max(0.0, float(np.median(pairs)) * EPOCHS / (EPOCHS - 1)))
    return whole, whole - critic, critic
