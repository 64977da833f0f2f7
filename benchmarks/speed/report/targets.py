"""The project's speed targets: what is asked, what measures it, what was measured."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.speed.batch_scaling import LARGEST, SAMPLES, scaling_cell
from benchmarks.speed.cell import BACKENDS, Cell
from benchmarks.speed.measures.training import BATCH
from benchmarks.speed.problems import SMALL_GRID
from benchmarks.speed.report import analysis
from benchmarks.speed.samples import geometric_mean, log_log_slope
from benchmarks.speed.store import Store


SB3 = "sb3-contrib"
NAMES = {"jax": "JAX", "torch": "PyTorch"}
UPDATE = "python -m benchmarks.speed.update --peers"
TRAINING = "python -m benchmarks.speed.training --peers"
SCALING = "python -m benchmarks.speed.batch_scaling"


class Stores(NamedTuple):
    """The samples of all benchmarks on one device."""

    update: Store
    training: Store
    scaling: Store


class Target(NamedTuple):
    """One target.

    Attributes:
        text: what is asked.
        command: what measures it.
        measured: what was found, in words; "not run".
        met: whether that is enough; None if not run.
    """

    text: str
    command: str
    measured: str
    met: bool | None


def _target(
    text: str,
    command: str,
    value: float | None,
    show: Callable[[float], str],
    bound: float,
    *,
    at_least: bool = True,
) -> Target:
    if value is None:
        return Target(text, command, "not run", None)
    met = value >= bound if at_least else value <= bound
    return Target(text, command, show(value), met)


def all_targets(stores: Stores) -> list[Target]:
    """Every target, with what the samples say."""
    return [
        *_against_sb3(stores.update),
        *_fisher(stores.update),
        *_first_calls(stores.update),
        *_training(stores.training),
        *_scaling(stores.scaling),
    ]


def _against_sb3(store: Store) -> list[Target]:
    targets = []
    for backend, bound in (("jax", 3.0), ("torch", 2.5)):
        ratios = []
        for size in SMALL_GRID:
            slow, fast = (
                analysis.update_cell(name, size, "cpu") for name in (SB3, backend)
            )
            found = analysis.compare(store, slow, fast)
            text = f"{NAMES[backend]} at least {bound:g}x {SB3}, {size.label}"
            if found is None:
                targets.append(Target(text, UPDATE, "not run", None))
                continue
            shown = f"{found.value:.2f}x (95 %: {found.low:.2f} to {found.high:.2f})"
            if not found.is_claimed(analysis.floor_of(store, size)):
                shown += ", no claim: noise, or too few rounds"
                targets.append(Target(text, UPDATE, shown, None))
                continue
            ratios.append(found.value)
            targets.append(Target(text, UPDATE, shown, found.value >= bound))
        if backend == "jax":
            mean = geometric_mean(ratios) if len(ratios) == len(SMALL_GRID) else None
            targets.append(
                _target(
                    f"JAX at least 4x {SB3}, geometric mean of the four", UPDATE,
                    mean, lambda value: f"{value:.2f}x", 4.0,
                )
            )  # fmt: skip
    return targets


def _fisher(store: Store) -> list[Target]:
    targets = []
    for backend in ("jax", "torch"):
        found = analysis.fisher_fraction(store, backend)
        targets.append(
            _target(
                f"{NAMES[backend]} Fisher products at 65 % of the matrix-product peak, "
                "8,192 x 256-256", UPDATE, found and found[0],
                lambda value: f"{100 * value:.1f} %", 0.65,
            )
        )  # fmt: skip
    return targets


def _first_calls(store: Store) -> list[Target]:
    rows = [
        analysis.make_row(store, analysis.update_cell("jax", size, "cpu"))
        for size in SMALL_GRID
    ]
    targets = []
    for name, bound, values in (
        ("empty", 3.0, [row.cold for row in rows]),
        ("warm", 1.0, [row.warm for row in rows]),
    ):
        known = [value for value in values if value is not None]
        targets.append(
            _target(
                f"First call of JAX at most {bound:g} s with {'an' * (name == 'empty')}"
                f"{'a' * (name == 'warm')} {name} compilation cache, slowest size",
                UPDATE, max(known) if len(known) == len(rows) else None,
                lambda value: f"{value:.2f} s", bound, at_least=False,
            )
        )  # fmt: skip
    return targets


def training_cells(store: Store, env_id: str, num_envs: int) -> dict[str, Cell]:
    """Subject -> its training cell."""
    wanted = ("training", env_id, num_envs)
    return {
        cell.subject: cell
        for cell in store.cells(lambda c: (c.kind, c.env_id, c.num_envs) == wanted)
    }


def _training(store: Store) -> list[Target]:
    targets = []
    acting = {c.subject: c for c in store.cells(lambda c: c.kind == "act")}
    for backend in ("jax", "torch"):
        cell = acting.get(backend)
        seconds = analysis.median_of(store, cell, "seconds") if cell else None
        targets.append(
            _target(
                f"{NAMES[backend]} `act` for 8 environments under 150 µs", TRAINING,
                seconds, lambda value: f"{1e6 * value:.0f} µs", 150e-6, at_least=False,
            )
        )  # fmt: skip
    targets += _loop_shares(store) + _speeds(store) + _of_ceiling(store)
    return targets


def acting_microseconds(store: Store, cell: Cell) -> float | None:
    """Of a step of all environments: what is neither stepping nor learning."""
    seconds = analysis.median_of(store, cell, "acting")
    return seconds and 1e6 * seconds / (BATCH // cell.num_envs)


def floor_microseconds(store: Store, cell: Cell) -> float | None:
    """Of a step of all environments: what no loop can do without, with warm caches."""
    sums = [sum(s["floor"].values()) for s in store.good(cell) if "floor" in s]
    return float(np.median(sums)) if sums else None


def _loop_shares(store: Store) -> list[Target]:
    targets = []
    for env_id, count, suffix, bound in (
        ("Pendulum-v1", 8, "", 1 / 3), ("Pendulum-v1", 32, "", 1 / 3),
        ("HalfCheetah-v5", 8, "", 1 / 3), ("HalfCheetah-v5", 32, "", 1 / 3),
        ("HalfCheetah-v5", 64, "-envpool", 1 / 10),
    ):  # fmt: skip
        cells = training_cells(store, env_id, count)
        for backend in ("jax", "torch"):
            names = (f"{backend}{suffix}", SB3)
            ours, peer = (
                acting_microseconds(store, cells[n]) if n in cells else None
                for n in names
            )
            text = (
                f"{NAMES[backend]} acting and collecting, {env_id}, {count} "
                f"environments{' in EnvPool' * bool(suffix)}: at most "
                f"{bound:.2f} of {SB3}'s time of a step"
            )
            said = f"{ours:.0f} µs of {peer:.0f}" if ours and peer else ""
            if said and (least := floor_microseconds(store, cells[names[0]])):
                said += f"; what no loop can do without takes {least:.0f} alone"
            targets.append(
                _target(
                    text, TRAINING, ours / peer if ours and peer else None,
                    lambda value, said=said: f"{value:.2f} ({said})", bound,
                    at_least=False,
                )
            )  # fmt: skip
    return targets


def _speeds(store: Store) -> list[Target]:
    targets = []
    for env_id, suffix, bounds in (
        ("Pendulum-v1", "", (3.0, 2.2)), ("HalfCheetah-v5", "-envpool", (2.6, 2.0)),
    ):  # fmt: skip
        cells = training_cells(store, env_id, 8)
        for backend, bound in zip(("jax", "torch"), bounds, strict=True):
            ours, peer = (
                analysis.median_of(store, cells[n], "steps_per_second")
                if n in cells else None
                for n in (f"{backend}{suffix}", SB3)
            )  # fmt: skip
            targets.append(
                _target(
                    f"{NAMES[backend]} training {env_id}"
                    f"{' with EnvPool' * bool(suffix)}, 8 environments, at least "
                    f"{bound:g}x {SB3}'s steps/s", TRAINING,
                    ours / peer if ours and peer else None,
                    lambda value: f"{value:.2f}x", bound,
                )
            )  # fmt: skip
    return targets


def ceiling_share(store: Store, cell: Cell) -> float | None:
    """Steps/s over those of an agent that acts in no time and learns as fast."""
    good = store.good(cell)
    shares = [
        (s["stepping"] + s["learning"]) / (s["stepping"] + s["learning"] + s["acting"])
        for s in good
    ]
    return float(np.median(shares)) if shares else None


def _of_ceiling(store: Store) -> list[Target]:
    cells = training_cells(store, "HalfCheetah-v5", 8)
    return [
        _target(
            f"{NAMES[backend]} training HalfCheetah-v5, 8 environments of Gymnasium, "
            "at least 0.9 of an agent's that acts in no time", TRAINING,
            ceiling_share(store, cells[backend]) if backend in cells else None,
            lambda value: f"{value:.2f}", 0.9,
        )
        for backend in ("jax", "torch")
    ]  # fmt: skip


def scaling_points(store: Store, backend: str) -> list[tuple[int, float]]:
    """Batch size and seconds of an update, for each size that was measured."""
    points = []
    for samples in SAMPLES:
        good = store.good(scaling_cell(backend, samples))
        if good:
            median = np.median([analysis.update_seconds(sample) for sample in good])
            points.append((samples, float(median)))
    return points


def _scaling(store: Store) -> list[Target]:
    targets = []
    for backend in reversed(BACKENDS):
        points = scaling_points(store, backend)
        complete = len(points) == len(SAMPLES)
        slope = log_log_slope(*zip(*points, strict=True)) if complete else None
        memory = analysis.median_of(
            store, scaling_cell(backend, LARGEST), "peak_bytes_total"
        )
        targets += [
            _target(
                f"{NAMES[backend]}: log-log slope of time in batch at most 1.05, 8,192 "
                "to 524,288", SCALING, slope, lambda value: f"{value:.3f}", 1.05,
                at_least=False,
            ),
            _target(
                f"{NAMES[backend]}: 1,000,000 samples x 64-64 in under 4 GB, the whole "
                "process", SCALING, memory, lambda value: f"{value / 1e9:.2f} GB", 4e9,
                at_least=False,
            ),
        ]  # fmt: skip
    return targets
