"""`trpo train --distributed`, in each of its processes.

Rank 0 leads, logs, evaluates and saves; the others follow. Each steps its own
environments and all make each update together. Whatever else needs them all, such as a
checkpoint, rank 0 orders; between orders a rank waits.
"""

import dataclasses
import enum
import importlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from trpo.agent.make import load_backend
from trpo.common.closing import closing
from trpo.common.signals import StopRequest, stop_signals
from trpo.common.terminal import Terminal
from trpo.common.validation import require_positive
from trpo.config.ranks import RankArguments
from trpo.config.run import TrainConfig
from trpo.data.rollout import Rollout
from trpo.distributed.launchers import Place
from trpo.distributed.lost import LOST_RANK, end_process, is_lost_connection
from trpo.distributed.ranks import Ranks
from trpo.runs.directory import directory_of
from trpo.runs.train import train_run
from trpo.training.progress import Progress
from trpo.training.ranks import AllFailedError
from trpo.training.trainer import Trainer


CONFIG = "config"
# Exit status of a rank that has failed itself.
FAILED = 1


class Order(enum.IntEnum):
    """The next thing that all ranks do."""

    TRAIN = 0
    GIVE_STATE = 1
    TAKE_STATE = 2
    END = 3


class LeadingTrainer(Trainer):
    """Rank 0's: what it does, it has the others do too.

    Args:
        config: Configuration of the run.
        ranks: All.
        asked: Set where a signal has come to any of them.
    """

    ranks: Ranks

    def __init__(self, config: TrainConfig, ranks: Ranks, asked: StopRequest) -> None:
        super().__init__(config, ranks=ranks)
        self._asked, self._all_failed = asked, False

    def train_once(
        self, on_rollout: Callable[[Rollout], None] | None = None
    ) -> Progress:
        """See `Trainer`."""
        self._order(Order.TRAIN)
        try:
            return super().train_once(on_rollout)
        except AllFailedError as error:
            self._all_failed = True
            raise error.__cause__ or error from None

    def get_state(self, member: int = 0) -> dict[str, np.ndarray]:
        """See `Trainer`; of the whole run.

        Raises:
            RuntimeError: an update was interrupted, in which the others still are.
        """
        self._order(Order.GIVE_STATE)
        return super().get_state(member)

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """See `Trainer`; of the whole run, however many ranks saved it."""
        # Before the others are told, who would fail too.
        state = self.check_state(state)
        self._order(Order.TAKE_STATE)
        return super().set_state(self.ranks.broadcast(state))

    def close(self) -> None:
        """Have the others end, and close the environments."""
        with closing(super().close):
            if self.is_between_updates:
                self._order(Order.END)

    @property
    def is_between_updates(self) -> bool:
        """Whether the others wait for an order."""
        return self._all_failed or not self._interrupted

    def _order(self, order: Order) -> None:
        if not self.is_between_updates:
            raise RuntimeError(
                "other processes are in the middle of an update; the last checkpoint "
                "is what counts"
            )
        _exchanged(self.ranks, self._asked, order)


def follow(trainer: Trainer, ranks: Ranks, asked: StopRequest) -> None:
    """Do what rank 0 orders, until it ends the run.

    Raises:
        AllFailedError: a rank's environments failed; what was learned is saved.
    """
    failure = None
    while (order := _exchanged(ranks, asked)) != Order.END:
        if order == Order.TRAIN:
            try:
                trainer.train_once()
            except AllFailedError as error:
                failure = error
        elif order == Order.GIVE_STATE:
            trainer.get_state()
        else:
            trainer.set_state(ranks.broadcast({}))
    if failure is not None:
        ranks.close()
        raise failure


def _exchanged(ranks: Ranks, asked: StopRequest, order: Order = Order.END) -> Order:
    """Rank 0's order; a signal that has come to any rank has come to all."""
    own = {"order": np.array(int(order)), "asked": np.array(int(asked.number))}
    parts = ranks.gather(own)
    for number in filter(None, (int(part["asked"]) for part in parts)):
        if not asked.is_set():
            asked.take(number)
    return Order(int(parts[0]["order"]))


def train_distributed(
    config: TrainConfig,
    run_dir: Path | None,
    arguments: RankArguments,
    *,
    resume: bool = False,
) -> int:
    """Be one process of a run; it ends when the run does.

    If another process is lost all end, and what counts is the last checkpoint. A
    launcher that starts a job again (torchrun's --max-restarts, Slurm's requeue) goes
    on from there, as does whoever resumes it, with any number of processes.

    Args:
        config: Of the run; rank 0's counts.
        run_dir: To write to, by rank 0, whose counts; None for a new one.
        arguments: How the processes meet.
        resume: Continue from the newest checkpoint.

    Returns:
        Exit status; see `StopRequest.status`.
    """
    require_positive("rank_timeout", arguments.rank_timeout)
    place = arguments.place()
    load_backend(config.backend)
    engine = importlib.import_module(f"trpo_{config.backend}.devices.processes")
    ranks = engine.start(config.device, place, arguments.rank_timeout)
    config = dataclasses.replace(config, device=engine.local_device(config.device))
    try:
        # Only here: who waits for the others to come can be ended as usual.
        with stop_signals() as asked:
            if ranks.rank:
                _follow(config, ranks, asked)
            else:
                launched = Place.of_launcher()
                again = launched is not None and launched.restarted
                _lead(
                    config, run_dir, ranks, asked, resume or (None if again else False)
                )
        ranks.close()
    except BaseException as error:
        if ranks.parted:
            raise
        if lost := is_lost_connection(error):
            said = str(error).splitlines()[0]
            Terminal(stderr=True).say(f"rank {ranks.rank}: lost another: {said}")
            ranks.name_lost()
        reason = f"{type(error).__name__}: {error}"
        ranks.fail(reason)
        # The engines wait at exit for ranks that will not come.
        end_process(f"rank {ranks.rank}: {reason}", LOST_RANK if lost else FAILED)
    return asked.status


def _lead(
    config: TrainConfig,
    run_dir: Path | None,
    ranks: Ranks,
    asked: StopRequest,
    resume: bool | None,
) -> None:
    told, trainers = threading.Event(), list[LeadingTrainer]()

    def make_trainer(config: TrainConfig) -> LeadingTrainer:
        told.set()
        text = json.dumps(config.to_dict()).encode()
        ranks.broadcast({CONFIG: np.frombuffer(text, dtype=np.uint8)})
        trainers.append(LeadingTrainer(config, ranks, asked))
        return trainers[0]

    try:
        with directory_of(run_dir, config) as path:
            train_run(config, path, resume=resume, make_trainer=make_trainer)
    except Exception as error:
        if not told.is_set():
            ranks.broadcast({})
            ranks.close()
        elif is_lost_connection(error):
            pass
        elif trainers and trainers[0].is_between_updates:
            # They were told to end as it was closed.
            ranks.close()
        raise


def _follow(config: TrainConfig, ranks: Ranks, asked: StopRequest) -> None:
    told = ranks.broadcast({})
    if not told:
        return
    leaders = TrainConfig.from_dict(json.loads(bytes(told[CONFIG])))
    # Each has been told itself what to import, from where, and its device.
    own = {"modules": config.modules, "device": config.device}
    trainer = Trainer(dataclasses.replace(leaders, **own), ranks=ranks)
    with closing(trainer.close):
        follow(trainer, ranks, asked)
