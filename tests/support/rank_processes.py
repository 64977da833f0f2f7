"""Processes that are the ranks of one run, for tests: each executes this file.

python rank_processes.py BACKEND DIRECTORY, with the variables of torchrun.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trpo.config.run import TrainConfig, TRPOConfig
from trpo.launchers import free_port
from trpo.rank_run import LeadingTrainer, follow
from trpo.rank_watch import RankWatch
from trpo.runs.directory import RunDirectory
from trpo.runs.distributed import _rescue
from trpo.training.trainer import Trainer


ROOT = Path(__file__).resolve().parents[2]
UPDATES = 3


def config_of(backend: str) -> TrainConfig:
    """A small run; its 3 environments don't divide by 2 processes."""
    agent = TRPOConfig(
        policy_layer_sizes=(5,),
        critic_layer_sizes=(4,),
        value_epochs=2,
        value_minibatch_size=16,
        dtype="float64",
    )
    return TrainConfig(
        env_id="Pendulum-v1", backend=backend, num_envs=3, rollout_steps=15, agent=agent
    )


def start(command: list[str], size: int, **variables: str) -> list[subprocess.Popen]:
    """`size` processes of one command, with the variables of torchrun."""
    shared = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(size)
    ]


def main(backend: str, directory: str) -> None:
    """Three updates together; then rank 1 dies in the middle of the fourth."""
    config = config_of(backend)
    ranks = importlib.import_module(f"trpo_{backend}.devices.processes").start()
    watch = RankWatch(ranks, timeout=300.0)
    if ranks.rank:
        trainer = Dying(config, ranks=ranks)
        try:
            follow(trainer, ranks)
        except Exception as error:
            watch.fail(str(error))
            os._exit(1)
    trainer = LeadingTrainer(config, ranks)
    run = RunDirectory(Path(directory))
    run.create(config)
    watch.rescue = lambda: _rescue(trainer, run.path)
    metrics = [trainer.train_once().metrics for _ in range(UPDATES)]
    np.savez(run.path / "state.npz", **trainer.get_state())
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    try:
        trainer.train_once()
    except Exception as error:
        watch.fail(str(error))
    os._exit(1)


class Dying(Trainer):
    """A rank that is killed after its rollout, where the others wait for it."""

    def prepare_batch(self, rollout: Any) -> Any:
        prepared = super().prepare_batch(rollout)
        if self.update_count == UPDATES:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepared


def one_process(backend: str) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """State and metrics of the same run in this process."""
    trainer = Trainer(config_of(backend))
    try:
        metrics = [trainer.train_once().metrics for _ in range(UPDATES)]
        return trainer.get_state(), metrics
    finally:
        trainer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
