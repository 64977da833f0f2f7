"""Callbacks: user code that watches, writes and stops during training.

A callback watches through the `on_...` methods and may stop training from each. As in
Stable-Baselines3, False stops and None or True goes on; `Stop("why")` stops and says
why. Training stops between updates, never inside one: what a callback answers to a
rollout holds once its update is done, so that a checkpoint always has whole updates.
"""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from trpo.agent.base import AgentBase
from trpo.callbacks.state import CallbackStateError, decoded_state, encoded_state
from trpo.common.closing import closing
from trpo.common.validation import require_text, shown
from trpo.data.rollout import Rollout


LONGEST_METRIC = 200


class Stop(NamedTuple):
    """A callback's answer that stops training; `reason` is shown to the user."""

    reason: str


Answer: TypeAlias = bool | Stop | None


class Run(NamedTuple):
    """The run that a callback is part of, as the callback sees it.

    Attributes:
        config: a `trpo.config.run.TrainConfig`.
        agent: the agent that learns; None in compiled training, where it is a state
            on the device. Acting deterministically changes nothing of the run.
        directory: the run directory; None where nothing is written (`Trainer.run`).
        save: writes the present state into another run directory, in place of what it
            held, with a note in the checkpoint's metadata; None without a directory.
        log: `log(name, value)` adds a number of yours to the row of this update, in
            `progress.metrics`, metrics.csv, TensorBoard and Weights & Biases; what is
            logged in `on_start` or once the row is written, to the next one.
    """

    config: Any
    agent: AgentBase | None = None
    directory: Path | None = None
    save: Callable[[Path, dict[str, Any]], Path] | None = None
    log: Callable[[str, float], None] = lambda name, value: None


class Callback:
    """Base of all callbacks; override what you need.

    For each update the order is `on_rollout`, the update, the evaluation if one is
    due, `on_update`, `on_evaluation`, the row of metrics is written, `on_row`, the
    checkpoint if one is due, `on_checkpoint`.

    A callback that has state returns it from `get_state`: a dictionary of None, flags,
    numbers (NaN and infinities too), text, and lists, tuples and dictionaries of these.
    It is saved in every checkpoint and given to `set_state` before `on_start` of the
    resumed run, so that a resumed run equals one that was not cut. A checkpoint holds
    what the state was before `on_checkpoint` of that checkpoint. A state that can't be
    saved is refused right after `on_start`; should it become one later, checkpoints
    have the last that could be saved, and a warning says so.
    """

    @property
    def name(self) -> str:
        """Key of its state in a checkpoint; of the callbacks of a run, each its own."""
        return type(self).__name__

    def on_start(self, run: Run) -> None:
        """Training begins, or goes on."""

    def on_rollout(self, rollout: Rollout) -> Answer:
        """A rollout is complete; its arrays are the update's own, so only read them.

        Host training only: a compiled rollout stays on the device.
        """

    def on_update(self, progress: Any) -> Answer:
        """An update is done; `trpo.training.progress.Progress` has its metrics.

        Where an evaluation was due they have its mean and standard deviation.
        """

    def on_evaluation(self, progress: Any, result: Any) -> Answer:
        """An evaluation during training; `trpo.rollout.evaluation.EvaluationResult`.

        Not called with the final evaluation, which belongs to no update: a run of 6
        updates that is trained on for 6 equals one of 12.
        """

    def on_row(self, progress: Any) -> Answer:
        """The row of metrics is complete, with what callbacks have logged."""

    def on_checkpoint(self, progress: Any, path: Path) -> Answer:
        """A checkpoint is on the disk, in the folder `path`."""

    def on_end(self) -> None:
        """Training has ended or failed; called once for each `on_start`."""

    def get_state(self) -> dict[str, Any]:
        """State to be saved in checkpoints; {} of a callback without state."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `get_state` returned."""


class OnUpdate(Callback):
    """A function as a callback: called after each update.

    Args:
        function: Takes a `trpo.training.progress.Progress`.
    """

    def __init__(self, function: Callable[[Any], Answer]) -> None:
        self._function = function

    @property
    def name(self) -> str:
        """No two are alike; they have no state."""
        return f"{type(self).__name__}-{id(self._function)}"

    def on_update(self, progress: Any) -> Answer:
        """Call the function."""
        return self._function(progress)


CallbackLike: TypeAlias = Callback | Callable[[Any], Answer]


def label_of(callback: CallbackLike) -> str:
    """What one is called for a reader: its class, or the function."""
    if isinstance(callback, Callback):
        return callback.name
    return getattr(callback, "__qualname__", type(callback).__name__)


class Callbacks:
    """The callbacks of a run, asked in order; all are asked even if one has stopped.

    Args:
        callbacks: Callbacks, and functions to be called after each update.

    Raises:
        ValueError: one is no callback, or two have the same name.
    """

    def __init__(self, callbacks: CallbackLike | Sequence[CallbackLike] = ()) -> None:
        parts = callbacks if isinstance(callbacks, Sequence) else (callbacks,)
        self._parts = [_callback(part) for part in parts]
        self._started: list[Callback] = []
        self.stop: Stop | None = None
        """The first answer that stopped training, if any."""
        self._kept: dict[str, dict] = {}
        self._logged: dict[str, float] = {}
        """For the next row."""
        self._row: dict[str, float] | None = None
        """Metrics of the update that callbacks are asked of."""
        self._computed: dict[str, float] = {}
        """Those of it that are the library's."""
        self._early: set[str] = set()
        """Names that were logged before there was a row."""
        names = [part.name for part in self._parts]
        if odd := [name for name in names if not isinstance(name, str)]:
            raise ValueError(
                f"`callbacks`: expected names that are text, got {odd[0]}."
            )
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"`callbacks`: expected names that differ, got {min(twice)!r} twice; "
                "give one another `name`, under which its state is saved."
            )

    def start(self, run: Run) -> None:
        """Training begins; an earlier stop is forgotten.

        Raises:
            CallbackStateError: a state can't be saved.
        """
        self.stop = None
        self._kept.clear()
        for part in self._parts:
            # Before it is called: what it has opened when it fails is closed too.
            self._started.append(part)
            part.on_start(run._replace(log=self.log))
        self.get_state()

    def end(self) -> None:
        """Training has ended or failed; every one that started is told."""
        with contextlib.ExitStack() as ends:
            for part in self._started:
                ends.enter_context(closing(part.on_end))
            self._started = []

    def log(self, name: str, value: float) -> None:
        """Add a number to the row of this update; see `Run`.

        Raises:
            ValueError: the name is that of a metric, or no text; or it is no number.
        """
        into = self._logged if self._row is None else self._row
        into |= own_metrics({name: value}, self._computed)

    def add_logged(self, progress: Any) -> None:
        """Have what was logged before there was a row in this one.

        Raises:
            ValueError: a name is that of a metric.
        """
        logged, self._logged = self._logged, {}
        self._early |= {*logged}
        progress.metrics.update(own_metrics(logged, progress.metrics))

    def on_rollout(self, rollout: Rollout) -> None:
        """See `Callback`."""
        self._ask("on_rollout", rollout)

    def on_update(self, progress: Any, result: Any = None) -> None:
        """Tell of an update, and of the result if it was evaluated; see `Callback`.

        What callbacks log, or write into `progress.metrics` under names of their own,
        becomes part of the row; the library's own metrics stay what they are.

        Raises:
            ValueError: what they wrote is no number.
        """
        self.add_logged(progress)
        metrics = progress.metrics
        computed = {n: v for n, v in metrics.items() if n not in self._early}
        self._row, self._computed = metrics, computed
        try:
            self._ask("on_update", progress)
            if result is not None:
                self._ask("on_evaluation", progress, result)
        finally:
            self._row, self._computed, self._early = None, {}, set()
            own = {n: v for n, v in metrics.items() if n not in computed}
            metrics.clear()
            metrics.update(computed)
            metrics.update(own_metrics(own))

    def on_row(self, progress: Any) -> None:
        """See `Callback`."""
        self._ask("on_row", progress)

    def on_checkpoint(self, progress: Any, path: Path) -> None:
        """See `Callback`."""
        self._ask("on_checkpoint", progress, path)

    def get_state(self) -> dict[str, dict[str, Any]]:
        """Name -> state of each callback that has one, as JSON can hold it.

        Once they have started, one that fails or can't be saved any more is replaced by
        the last that could: what was learned is not lost for it.

        Raises:
            CallbackStateError: a state can't be saved, and none could before.
        """
        for part in self._parts:
            try:
                self._kept[part.name] = encoded_state(part.name, part.get_state())
            except Exception as error:
                if part.name not in self._kept:
                    raise
                warnings.warn(
                    f"the state of {part.name} was not saved ({error}): checkpoints "
                    "have its last one that could be",
                    stacklevel=2,
                )
        return {name: state for name, state in self._kept.items() if state}

    def set_state(self, states: Mapping[str, Any]) -> None:
        """Continue from `states`; a callback that is not in it starts anew.

        Raises:
            CallbackStateError: one is not of its callback, which is named.
        """
        if not isinstance(states, Mapping):
            raise CallbackStateError(
                f"`callbacks`: expected a dictionary of states, got {shown(states)}."
            )
        for part in self._parts:
            if part.name not in states:
                continue
            try:
                part.set_state(decoded_state(states[part.name]))
            except Exception as error:
                raise CallbackStateError(
                    f"`callbacks`: expected a state of {part.name}, got "
                    f"{shown(states[part.name])} ({type(error).__name__}: {error})."
                ) from error

    def _ask(self, method: str, *arguments: Any) -> None:
        for part in self._parts:
            stop = _stop(part, method, getattr(part, method)(*arguments))
            self.stop = self.stop or stop


def own_metrics(
    metrics: Mapping[Any, Any], taken: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Numbers that are logged under names of the user's own.

    Args:
        metrics: By name.
        taken: What has the library's names.

    Raises:
        ValueError: a name is no text, or taken; a value is no number.
    """
    numbers = {}
    for name, value in metrics.items():
        require_text("name", name, "the name of a metric", LONGEST_METRIC)
        if name in ("step", "update", *(taken or ())) or not name.isprintable():
            raise ValueError(
                "`name`: expected a printable name that no metric of the library has, "
                f"such as 'custom/x', got {shown(name)}."
            )
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"`value`: expected a number to log as {name!r}, got {shown(value)}."
            ) from error
    return numbers


def _callback(part: CallbackLike) -> Callback:
    if isinstance(part, Callback):
        return part
    if isinstance(part, type) or not callable(part):
        raise ValueError(
            "`callbacks`: expected instances of trpo.callbacks.Callback, or functions "
            f"of a Progress, got {part!r}."
        )
    return OnUpdate(part)


def _stop(part: Callback, method: str, answer: Any) -> Stop | None:
    if answer is None or isinstance(answer, Stop):
        return answer
    if isinstance(answer, bool | np.bool_):
        return None if answer else Stop(f"{part.name}.{method} returned False")
    raise ValueError(
        f"`callbacks`: expected None, True, False or Stop from {part.name}.{method}, "
        f"got {answer!r}."
    )
