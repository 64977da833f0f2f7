"""Callbacks that a configuration asks for: best model, stop at a return, films."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

from trpo.callbacks.base import Callback, Run, Stop
from trpo.callbacks.wandb import WandbWriter
from trpo.common.files import FileError, Folder
from trpo.common.signals import stop_signals
from trpo.common.validation import require_between, require_count
from trpo.config.run import TrainConfig
from trpo.environments.source import EnvironmentSource
from trpo.rollout.evaluation import filmed_environment, record_video


class SaveBest(Callback):
    """Keeps the state of the best evaluation in a run directory of its own.

    `RUN_DIR/best` holds one checkpoint, the whole training state, written as any
    other: at every moment the old one or the new one is there and valid. Evaluations
    that are equal to the best leave it. Its state is the best mean return.
    """

    def __init__(self) -> None:
        self.best: float | None = None
        self._run: Run | None = None

    def on_start(self, run: Run) -> None:
        """Refuse a run without a directory."""
        if run.save is None or run.directory is None:
            raise ValueError(
                "`SaveBest`: expected a run with a directory; train by "
                "trpo.runs.train.train_run, which has one, or leave it out."
            )
        self._run = run

    def on_evaluation(self, progress: Any, result: Any) -> None:
        """Save if the mean return is above all before."""
        if self.best is not None and result.mean <= self.best:
            return
        assert self._run is not None
        assert self._run.save is not None
        assert self._run.directory is not None
        # First: what is saved says itself what it has to be better than.
        before, self.best = self.best, result.mean
        note = {
            "update": progress.update,
            "return_mean": result.mean,
            "return_std": result.std,
            "episodes": len(result.returns),
        }
        try:
            self._run.save(self._run.directory / "best", {"evaluation": note})
        except (OSError, FileError) as error:
            # The next that is better than what is on the disk is tried again.
            self.best = before
            warnings.warn(
                f"the best model was not written ({error}): training goes on, and the "
                "one before is kept",
                stacklevel=2,
            )

    def get_state(self) -> dict[str, Any]:
        """The best mean return so far."""
        return {} if self.best is None else {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback`."""
        require_between("best", state["best"], -math.inf, math.inf)
        self.best = float(state["best"])


class StopAtReturn(Callback):
    """Stops once an evaluation's mean return is `threshold` or more; has no state.

    Args:
        threshold: Undiscounted raw return.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def on_evaluation(self, progress: Any, result: Any) -> Stop | None:
        """Stop if it is reached."""
        if result.mean < self.threshold:
            return None
        return Stop(f"return {result.mean:.2f} reached {self.threshold:g}")


class Video(Callback):
    """Films one deterministic episode at every `every`-th evaluation.

    Into RUN_DIR/videos/step-<12 digits>/. Its state is the number of evaluations.

    Args:
        every: Evaluations from one film to the next; the first is at the `every`-th.
        env: What makes the environment, see `make_environment`, or a configuration.

    Raises:
        ValueError: the environment can't be filmed, or a package is missing.
    """

    def __init__(self, every: int, env: Any) -> None:
        # Refuse now what would fail at the first film.
        filmed_environment(env, 0, "video_every").close()
        self.every, self.evaluations = every, 0
        self._run: Run | None = None

    def on_start(self, run: Run) -> None:
        """Refuse a run without a directory, or with its agent on the device."""
        if run.directory is None or run.agent is None:
            raise ValueError(
                "`Video`: expected a run on the host with a directory; train by "
                "trpo.runs.train.train_run."
            )
        self._run = run

    def on_evaluation(self, progress: Any, result: Any) -> None:
        """Film if it is one's turn."""
        self.evaluations += 1
        if self.evaluations % self.every:
            return
        assert self._run is not None
        assert self._run.agent is not None
        assert self._run.directory is not None
        config = self._run.config
        try:
            with (
                Folder(self._run.directory) as run,
                run.folder("videos", make=True) as videos,
                videos.folder(f"step-{progress.step:012d}", make=True) as folder,
                stop_signals() as stop,
            ):
                record_video(
                    self._run.agent,
                    EnvironmentSource.of(config),
                    seed=config.seed,
                    directory=folder,
                    max_steps=config.eval_max_steps,
                    stop=stop,
                )
        except (OSError, FileError) as error:
            warnings.warn(
                f"no film was written ({error}): training goes on", stacklevel=2
            )

    def get_state(self) -> dict[str, Any]:
        """Evaluations so far."""
        return {"evaluations": self.evaluations}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback`."""
        require_count("evaluations", state["evaluations"], minimum=0)
        self.evaluations = state["evaluations"]


def configured_callbacks(config: TrainConfig) -> list[Callback]:
    """Made before anything is written, so that what is missing is said at once.

    Raises:
        ValueError: a package is missing, or the environment can't be filmed.
    """
    asked, callbacks = config.callbacks, list[Callback]()
    if asked.wandb_project is not None:
        callbacks.append(WandbWriter(asked.wandb_project))
    if asked.save_best:
        callbacks.append(SaveBest())
    if asked.video_every:
        callbacks.append(Video(asked.video_every, EnvironmentSource.of(config)))
    if asked.stop_at_return is not None:
        callbacks.append(StopAtReturn(asked.stop_at_return))
    return callbacks
