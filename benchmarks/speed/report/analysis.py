"""From raw samples to the numbers that tables, figures and targets show."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.speed import flops
from benchmarks.speed.cell import PRECISIONS, SUBJECTS, Cell
from benchmarks.speed.measures.update import split
from benchmarks.speed.problems import Size
from benchmarks.speed.samples import Ratio, Summary, noise_floor, ratio, summarize
from benchmarks.speed.store import Store
from benchmarks.speed.subjects import CG_ITERATIONS, EPOCHS


class Peaks(NamedTuple):
    """The machine's own limits.

    Attributes:
        matmul: float32 operations per second of the better framework.
        bandwidth: bytes per second.
    """

    matmul: float
    bandwidth: float


class Row(NamedTuple):
    """One row of an update table; seconds, bytes; None where not measured.

    Attributes:
        cell: what was measured.
        name: how tables call it.
        why_not: why there is no measurement; empty if there is.
        update: whole update.
        policy: policy step.
        critic: critic fit.
        cold: first call with an empty compilation cache.
        warm: first call with a warm one.
        memory: peak above what the process held before.
        roofline: fraction of the roofline's speed.
        error_policy: distance from the float64 result over the length of the step.
        error_value: the same of the critic.
        ring_b: the parity suite's ring B, worse of policy and critic.
        work: what the update did.
        launches: GPU kernels per update.
    """

    cell: Cell
    name: str
    why_not: str
    update: Summary | None = None
    policy: float | None = None
    critic: float | None = None
    cold: float | None = None
    warm: float | None = None
    memory: float | None = None
    roofline: float | None = None
    error_policy: float | None = None
    error_value: float | None = None
    ring_b: float | None = None
    work: dict[str, float] | None = None
    launches: float | None = None


def peaks(store: Store) -> Peaks | None:
    """Median over processes of the machine's peaks; None if they weren't measured."""
    for cell in store.cells(lambda cell: cell.kind == "machine"):
        good = store.good(cell)
        if good:
            rates = [matmul_peak(sample) for sample in good]
            bandwidth = [sample["bandwidth"] for sample in good]
            return Peaks(float(np.median(rates)), float(np.median(bandwidth)))
    return None


def matmul_peak(sample: dict[str, Any]) -> float:
    """The faster framework's rate of matrix products, as one process measured it."""
    return max(sample.get("torch_flops", 0.0), sample.get("jax_flops", 0.0))


def update_seconds(sample: dict[str, Any]) -> float:
    """One process's sample: the median of its updates."""
    return float(np.median(sample["seconds"]))


def rows(store: Store, size: Size, mode: str) -> Iterator[Row]:
    """The rows of one size and mode, in the order of `SUBJECTS`."""
    cells = store.cells(
        lambda c: (c.kind, c.size, c.mode, c.label) == ("update", size, mode, "A")
    )
    order = {name: place for place, name in enumerate((*SUBJECTS, *PRECISIONS))}
    for cell in sorted(cells, key=lambda c: (order[c.subject], order[c.precision])):
        yield make_row(store, cell)


def make_row(store: Store, cell: Cell) -> Row:
    """A cell's numbers: medians over its processes."""
    name = SUBJECTS[cell.subject]
    if cell.precision != "float32":
        name = f"{name}, {cell.precision} products"
    good = store.good(cell)
    if not good:
        return Row(cell, name, store.why_not(cell) or "not run")
    assert cell.size is not None
    parts = np.array([split(sample) for sample in good])
    # Compiling takes memory too, in the first round.
    settled = [sample for sample in good if not sample["cold"]] or good
    work = good[0]["work"]
    limits = peaks(store)
    least = flops.update(
        cell.size, round(work["cg_iterations"]), round(work["candidates"]), EPOCHS
    )
    whole = float(np.median(parts[:, 0]))
    least_seconds = least.seconds(limits.matmul, limits.bandwidth) if limits else None
    return Row(
        cell=cell,
        name=name,
        why_not="",
        update=summarize(list(parts[:, 0])),
        policy=float(np.median(parts[:, 1])),
        critic=float(np.median(parts[:, 2])),
        cold=_median(s["first_seconds"] for s in good if s["cold"]),
        warm=_median(s["first_seconds"] for s in good if not s["cold"]),
        memory=_median(s["device_peak_bytes"] or s["peak_bytes"] for s in settled),
        roofline=least_seconds / whole if least_seconds else None,
        error_policy=_median(s.get("error_policy") for s in good),
        error_value=_median(s.get("error_value") for s in good),
        ring_b=ring_b(store, cell),
        work=work,
        launches=_median(s.get("launches") for s in good),
    )


def _median(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.median(present)) if present else None


def ring_b(store: Store, cell: Cell) -> float | None:
    """The parity suite's ratio for a backend's own eager or jitted row."""
    wanted = Cell(kind="ring-b", device=cell.device, precision=cell.precision)
    ratios = [
        sample[f"{cell.subject}_{name}"]
        for sample in store.good(wanted)
        for name in ("policy", "value")
        if f"{cell.subject}_{name}" in sample
    ]
    return max(ratios) if ratios else None


def compare(store: Store, slow: Cell, fast: Cell) -> Ratio | None:
    """How many times `slow` takes as long, paired by round; None if not measured."""
    times = [
        {sample["round"]: update_seconds(sample) for sample in store.good(cell)}
        for cell in (slow, fast)
    ]
    shared = sorted(times[0].keys() & times[1].keys())
    if not shared:
        return None
    return ratio([times[0][k] for k in shared], [times[1][k] for k in shared])


def floor_of(store: Store, size: Size) -> float:
    """Noise floor of one size: how far the same cell, run twice, was from itself."""
    pairs = []
    for cell in store.cells(lambda c: c.size == size and c.label == "B"):
        again = {s["round"]: update_seconds(s) for s in store.good(cell)}
        twin = store.good(dataclasses.replace(cell, label="A"))
        first = {s["round"]: update_seconds(s) for s in twin}
        shared = sorted(again.keys() & first.keys())
        if shared:
            pairs.append(([first[k] for k in shared], [again[k] for k in shared]))
    return noise_floor(pairs)


def sizes(store: Store) -> list[Size]:
    """The sizes of the update cells, in the grid's order."""
    found = {cell.size for cell in store.cells(lambda c: c.kind == "update")}
    known = [size for size in found if size is not None]
    return sorted(known, key=lambda s: (s.name, s.layers, s.samples))


def update_cell(subject: str, size: Size, device: str, mode: str = "fixed") -> Cell:
    """The plain float32 update cell of a subject."""
    return Cell(kind="update", subject=subject, size=size, device=device, mode=mode)


def fisher_fraction(store: Store, backend: str) -> tuple[float, float] | None:
    """Fisher products' fraction of the matrix-product peak, and seconds of one.

    Medians over processes. A process's product is the median difference between 20 and
    10 iterations, and its fraction is of the peak that the same process measured.
    """
    for cell in store.cells(lambda c: (c.kind, c.subject) == ("fisher", backend)):
        good = store.good(cell)
        if good and cell.size:
            product = flops.fisher_product(cell.size.samples, cell.size.policy_widths)
            seconds = [float(np.median(s["seconds_per_product"])) for s in good]
            fractions = [
                product.flops / time / matmul_peak(sample)
                for time, sample in zip(seconds, good, strict=True)
            ]
            return float(np.median(fractions)), float(np.median(seconds))
    return None


def nominal_work(size: Size) -> flops.Work:
    """An update in fixed mode: 10 products, one candidate, 10 epochs."""
    return flops.update(size, CG_ITERATIONS, 1, EPOCHS)


def median_of(store: Store, cell: Cell, field: str) -> float | None:
    """Median over a cell's processes of one number of their results."""
    return _median(sample.get(field) for sample in store.good(cell))
