"""`trpo train --distributed`, in each of its processes."""

import contextlib
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trpo.agent.make import load_backend
from trpo.common.closing import closing
from trpo.common.signals import stop_signals
from trpo.common.terminal import SafeStream, Terminal
from trpo.common.validation import require_positive
from trpo.config.ranks import RankArguments
from trpo.config.run import TrainConfig
from trpo.rank_run import LeadingTrainer, follow, rescued
from trpo.rank_watch import RankWatch
from trpo.ranks import Ranks
from trpo.rendezvous import Rendezvous
from trpo.runs.directory import RunDirectory, directory_of, to_resume
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


def train_distributed(
    config: TrainConfig,
    run_dir: Path | None,
    arguments: RankArguments,
    *,
    resume: bool = False,
) -> int:
    """Be one process of a run; it ends when the run does.

    If another process is lost, one of those left saves what the last update has made,
    and all end with status `rank_watch.LOST_RANK`, which says: start again, with as
    many processes as there are.

    Args:
        config: Of the run; rank 0's counts.
        run_dir: To write to, by rank 0; by rank 1 if rank 0 is lost. Rank 0's counts;
            None for a new one.
        arguments: How the processes meet.
        resume: Continue from the newest checkpoint.

    Returns:
        Exit status.
    """
    require_positive("rank_timeout", arguments.rank_timeout)
    rendezvous = Rendezvous.of_arguments(
        coordinator=arguments.coordinator,
        num_processes=arguments.num_processes,
        process_id=arguments.process_id,
    )
    load_backend(config.backend)
    engine = importlib.import_module(f"trpo_{config.backend}.devices.processes")
    ranks = engine.start(config.device, rendezvous)
    watch = RankWatch(ranks, arguments.rank_timeout)
    device = engine.local_device(config.device)
    try:
        # Only here: who waits for the others to come can be ended as usual.
        with (
            _same_on_all(config, run_dir, ranks) as (config, path),
            stop_signals() as watch.asked,
        ):
            config = dataclasses.replace(config, device=device)
            if ranks.rank:
                _follow(config, path, ranks, watch)
            else:
                _lead(config, path, ranks, watch, resume=resume)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        watch.fail(reason)
        Terminal(stderr=True).error(f"rank {ranks.rank}: {reason}")
        SafeStream.of(sys.stdout).flush()
        # The engines wait at exit for ranks that will not come.
        os._exit(1)
    watch.close()
    ranks.close()
    engine.stop()
    return 0


def _lead(
    config: TrainConfig, run_dir: Path, ranks: Ranks, watch: RankWatch, *, resume: bool
) -> None:
    def make_trainer(config: TrainConfig) -> LeadingTrainer:
        trainer = LeadingTrainer(config, ranks)
        watch.rescue = lambda: _rescue(trainer, run_dir)
        return trainer

    train_run(config, run_dir, resume=resume, make_trainer=make_trainer)


def _follow(config: TrainConfig, run_dir: Path, ranks: Ranks, watch: RankWatch) -> None:
    # It is rank 0 that ends the run: the watch tells it of a signal that came here.
    trainer = Trainer(config, ranks=ranks)
    with closing(trainer.close):
        watch.rescue = lambda: _rescue(trainer, run_dir)
        follow(trainer, ranks)


@contextlib.contextmanager
def _same_on_all(
    config: TrainConfig, run_dir: Path | None, ranks: Ranks
) -> Iterator[tuple[TrainConfig, Path]]:
    """Rank 0's configuration and directory."""
    if ranks.rank == 0:
        with directory_of(run_dir, config) as path:
            text = json.dumps([config.to_dict(), str(path)]).encode()
            ranks.tell({"run": np.frombuffer(text, dtype=np.uint8)})
            yield config, path
    else:
        values, path = json.loads(bytes(ranks.hear()["run"]))
        # Each has been told itself what to import, and from where.
        leaders = TrainConfig.from_dict(values)
        yield dataclasses.replace(leaders, modules=config.modules), Path(path)


def _rescue(trainer: Trainer, run_dir: Path) -> str:
    """Save what the last update has made; returns where, or why not."""
    try:
        step, state = rescued(trainer)
        head = trainer.collector.spec.head
        path = RunDirectory(run_dir).save_state(trainer.config, head, step, state)
    except Exception as error:
        return f"nothing was saved ({type(error).__name__}: {error})"
    command = to_resume(run_dir, trainer.config)
    return f"saved {path}; continue: {command} --distributed"
