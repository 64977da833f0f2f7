"""A run of many processes, by each launcher, is the run of one process."""

import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.scale.processes import LAUNCHED, Launch
from trpo.config.run import TrainConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.training.trainer import Trainer


UPDATES, INTERVAL = 40, 3
STEPS = 64
RUN = (
    "train", "Pendulum-v1", "--num-envs", "4", "--rollout-steps", "16", "--seed", "3",
    "--total-steps", str(UPDATES * STEPS), "--checkpoint-interval", str(INTERVAL),
    "--policy-layer-sizes", "8", "--critic-layer-sizes", "8", "--dtype", "float64",
    "--value-epochs", "2", "--eval-episodes", "0",
)  # fmt: skip
# What an update has decided.
DECISIONS = ("policy/status", "policy/line_search_frac", "cg/iterations")
SIZES = (2, 4)


def rows() -> Iterator[tuple]:
    """Each launcher with 2 and with 4 processes."""
    for launcher, backend in LAUNCHED:
        for size in SIZES:
            with tempfile.TemporaryDirectory() as directory:
                error, same = launched(launcher, backend, size, Path(directory))
            yield launcher, backend, size, f"{error:.1e}", same


def launched(
    launcher: str,
    backend: str,
    size: int,
    folder: Path,
    *options: str,
    env_id: str = "Pendulum-v1",
) -> tuple[float, bool]:
    """`same_as_one` of a run of so many processes, with options of its own.

    Raises:
        RuntimeError: it failed.
    """
    run = folder / "run"
    more = [*options, "--distributed", "--backend", backend, "--run-dir", str(run)]
    arguments = [RUN[0], env_id, *RUN[2:], *more]
    with Launch(launcher, arguments, size, folder / "log.txt") as launch:
        said = launch.wait()
        if any(process.returncode for process in launch.processes):
            raise RuntimeError(said[-3000:])
    return same_as_one(run)


def same_as_one(run: Path) -> tuple[float, bool]:
    """Whether a run has ended as one process of PyTorch makes it.

    Returns:
        The largest difference of the states, over the largest entry of its array; and
        whether it is 1e-9 at most, every update has one row of metrics, and all of them
        were decided alike.
    """
    arrays = RunDirectory(run).load()[0].arrays
    config = RunDirectory(run).read_config(trust=True)
    config = dataclasses.replace(config, backend="torch")
    wanted, decided = _one_process(config)
    found = read_metrics(run / "metrics.csv")
    alike = [row["step"] for row in found] == [
        STEPS * (i + 1) for i in range(config.num_updates)
    ]
    alike &= [[row[name] for name in DECISIONS] for row in found] == decided
    if {n: a.shape for n, a in arrays.items()} != {
        n: a.shape for n, a in wanted.items()
    }:
        return float("inf"), False
    error = max(
        float(np.abs(arrays[name] - 1.0 * array).max(initial=0.0))
        / float(np.abs(array).max(initial=1e-9))
        for name, array in wanted.items()
    )
    return error, alike and error <= 1e-9


def _shapes(state: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in state.items()}


@functools.cache
def _one_process(config: TrainConfig) -> tuple[dict[str, np.ndarray], list]:
    trainer, decided = Trainer(config), []
    try:
        for _ in range(config.num_updates):
            metrics = trainer.train_once().metrics
            decided.append([metrics[name] for name in DECISIONS])
        return trainer.get_state(), decided
    finally:
        trainer.close()
