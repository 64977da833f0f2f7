"""The recorded vectors of the original agent, under canonical names."""

import functools
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays


FOLDER = pathlib.Path(__file__).parents[1] / "golden"


class GoldenUpdate(NamedTuple):
    """One recorded update.

    Attributes:
        before: canonical weights before it; None but for a case's first.
        after: canonical weights after it.
        batch: its samples.
        recorded: every other array of the update, by its own name.
        metrics: what `update` returned.
    """

    before: Arrays | None
    after: Arrays
    batch: Arrays
    recorded: Arrays
    metrics: dict[str, float]


class GoldenCase(NamedTuple):
    """A recorded run: sizes, constructor arguments, updates."""

    name: str
    meta: dict[str, Any]
    updates: tuple[GoldenUpdate, ...]


def names() -> list[str]:
    """Names of the recorded cases."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


@functools.lru_cache
def load(name: str) -> GoldenCase:
    """The recorded case `name`."""
    path = FOLDER / f"{name}.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        stored = {key: arrays[key] for key in arrays.files}
    meta = json.loads(str(stored["meta"]))
    updates = tuple(_update(stored, u) for u in range(meta["updates"]))
    return GoldenCase(name, meta, updates)


def _update(stored: Arrays, u: int) -> GoldenUpdate:
    prefix = f"update_{u}/"
    arrays = {
        k.removeprefix(prefix): a for k, a in stored.items() if k.startswith(prefix)
    }
    before = (
        _weights(arrays, "before/")
        if any(k.startswith("before/") for k in arrays)
        else None
    )
    return GoldenUpdate(
        before=before,
        after=_weights(arrays, "after/"),
        batch={
            k.removeprefix("batch/"): a for k, a in arrays.items() if k[:6] == "batch/"
        },
        recorded={k: a for k, a in arrays.items() if "/" not in k and k != "metrics"},
        metrics=json.loads(str(arrays["metrics"])),
    )


def _weights(recorded: Arrays, prefix: str) -> Arrays:
    weights = {}
    for network, hidden, output in (
        ("policy", "net.net.", "mean_layer"),
        ("value", "encoder.net.", "value_head"),
    ):
        start = f"{prefix}{network}/"
        arrays = {
            k.removeprefix(start): a for k, a in recorded.items() if k.startswith(start)
        }
        count = sum(k.startswith(hidden) and k.endswith("weight") for k in arrays)
        for kind in ("weight", "bias"):
            for i in range(count):
                array = arrays[f"{hidden}{2 * i}.{kind}"]
                weights[f"{network}.layers.{i}.{kind}"] = array
            weights[f"{network}.layers.{count}.{kind}"] = arrays[f"{output}.{kind}"]
        if "log_std" in arrays:
            weights["policy.log_std"] = arrays["log_std"].reshape(-1)
    return weights
