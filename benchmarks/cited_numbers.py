"""The measured numbers that prose may quote, by the file that they are of and a key.

A page names them in a comment behind the sentence, in the order of its numbers:
`<!-- from: FILE KEY; FILE KEY -->`, FILE below `benchmarks/results`.
`tests/project/test_numbers.py` compares them with what is here.
"""

import itertools
import json
from collections.abc import Iterator

import numpy as np

from benchmarks.command import COMMITTED
from benchmarks.csv_files import read_as, read_csv


Found = Iterator[tuple[str, float]]


def numbers() -> dict[str, float]:
    """File and key -> the number."""
    found: dict[str, float] = {}
    for part in (_parity, _returns, _compiled, _constrained, _scale):
        for name, value in part():
            assert name not in found, name
            found[name] = float(value)
    return found


def _parity() -> Found:
    """The certificate's: lock step, and what the full run has compared."""
    name = "parity/parity.json"
    content = json.loads((COMMITTED / name).read_text())
    for env_id, run in content["shadow"].items():
        yield f"{name} shadow {env_id} updates", len(run["updates"])
        yield f"{name} shadow {env_id} worst A", run["worst"]["A"]["value"]
        yield f"{name} shadow {env_id} bound A", run["worst"]["A"]["bound"]


def _returns() -> Found:
    """Environments whose mean return reaches the best published one, and how many."""
    from benchmarks.learning.training.published import PUBLISHED
    from benchmarks.learning.training.report import final_returns
    from benchmarks.learning.training.rows import read_results

    compared = reached = 0
    for folder in ("training", "spaces"):
        results = read_results(COMMITTED / folder)
        for (env_id, backend), curves in results.items():
            if backend != "jax":
                continue
            mean = float(final_returns(curves).mean())
            yield f"{folder}/{env_id}-jax.csv mean", mean
            compared += 1
            reached += mean >= PUBLISHED[env_id].mean
        for env_id in {env_id for env_id, _ in results}:
            if {(env_id, "jax"), (env_id, "torch")} <= set(results):
                pair = [results[env_id, name].values() for name in ("jax", "torch")]
                own, other = (
                    [row.scores[0] for curve in curves for row in curve]
                    for curves in pair
                )
                both = list(zip(own, other, strict=False))
                name = f"{folder}/{env_id}-jax.csv equal to torch"
                yield f"{folder}/{env_id}-jax.csv evaluations", len(both)
                yield name, sum(a == b for a, b in both)
    name = "training/ablations/constant_radius/InvertedDoublePendulum-v5-jax.csv"
    scores = [float(row["return_mean"]) for row in read_csv(COMMITTED / name)]
    yield f"{name} best", max(scores)
    yield f"{name} last", scores[-1]
    yield "training/README.md compared", compared
    yield "training/README.md reached", reached


def _compiled() -> Found:
    """Steps per second, and the returns of all seeds."""
    from benchmarks.learning.compiled.report import TASKS
    from benchmarks.speed.samples import summarize
    from benchmarks.speed.store import Store, store_path

    store = Store(store_path(COMMITTED / "compiled", "speed", "cpu"))
    for cell in store.cells():
        speeds = [sample["steps_per_second"] for sample in store.good(cell)]
        name = f"compiled/speed-cpu.json {cell.subject} steps per second"
        yield name, summarize(speeds).median
    yield "compiled/speed-cpu.json cores", store.about["fingerprint"]["cores"]
    for task in TASKS:
        rows = read_csv(COMMITTED / "compiled" / f"{task.stem}.csv")
        yield f"compiled/{task.stem}.csv seeds", len(rows)
        yield f"compiled/{task.stem}.csv steps", int(rows[0]["steps"])
        worst = min(float(row["return_mean"]) for row in rows)
        yield f"compiled/{task.stem}.csv worst seed", worst


def _constrained() -> Found:
    """Range over backends and seeds of the mean cost in the second half of training."""
    from benchmarks.learning.cost_limit import Row, late_costs

    folder = COMMITTED / "constrained"
    rows = read_as(folder / "curves.csv", Row)
    finals = read_as(folder / "policies.csv", Row)
    yield "constrained/policies.csv limit", finals[0].limit
    yield "constrained/policies.csv steps", finals[0].step
    for algorithm, own in itertools.groupby(
        sorted(finals), key=lambda row: row.algorithm
    ):
        costs = [late_costs(rows, row) for row in own]
        for what, of in (("lowest", np.min), ("highest", np.max)):
            yield f"constrained/curves.csv {algorithm} {what} cost", of(costs)


def _scale() -> Found:
    """All-reduces of an update, and the sharded update's error over its bound."""
    name = "scale/all_reduces.json"
    counts = json.loads((COMMITTED / name).read_text())["counts"]
    total = sum(counts.values())
    yield f"{name} all-reduces", total
    critic = sum(count for count in counts.values() if count >= 40)
    yield f"{name} percent of the critic", 100 * critic / total
    rows = read_csv(COMMITTED / "scale" / "equality.csv")
    errors = [float(row["error over bound"]) for row in rows]
    yield "scale/equality.csv largest error over bound", max(errors)
