"""The loop of a run on disk, whatever it trains.

Saving, pruning, full disks, signals, callbacks, evaluations, metrics, progress and
resuming are here alone. What is trained is a `Subject`: one training on the host, alone
or as the first of many processes, or the members of a compiled run.
"""

import contextlib
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from trpo.agent.base import AgentBase
from trpo.callbacks.base import CallbackLike, Callbacks, Run, label_of
from trpo.callbacks.builtin import configured_callbacks
from trpo.callbacks.state import encoded_state
from trpo.common.closing import closing, noting_failure
from trpo.common.files import FileError
from trpo.common.signals import Stop, StopRequest, stop_signals
from trpo.common.terminal import Terminal, quoted
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.data.rollout import Rollout
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.checkpoint_fit import require_fit, restoring
from trpo.runs.directory import (
    EVALUATION,
    MEMBERS,
    Moment,
    RunDirectory,
    RunDirectoryError,
)
from trpo.runs.evaluate import describe, evaluation_json
from trpo.runs.members import NamedMember, ranked, write_members, write_ranking
from trpo.runs.metrics import MetricsWriter
from trpo.runs.progress_bar import EvaluationDisplay, ProgressDisplay
from trpo.runs.resuming import (
    computed_by,
    due_metrics,
    not_as_before,
    quoted_run,
    require_more,
    to_resume,
)
from trpo.spaces.spaces import PolicySpec
from trpo.training.costs import cost_columns
from trpo.training.progress import COLUMNS, EVALUATION_COLUMNS, Progress
from trpo.training.python_arguments import PythonArguments


State = dict[str, np.ndarray]
MemberCallbacks = Sequence[CallbackLike] | Callable[[int], Sequence[CallbackLike]]
"""Callbacks of all members, or a function from a member's seed to its own."""


class Subject(Protocol):
    """What a run trains: one member, or many that differ in numbers alone.

    `trpo.training.trainer.Trainer` is one, and JAX's `CompiledTrainer`.

    Attributes:
        agent: the one that learns, for callbacks; None where it is on the device.
        collector: what steps environments; not there where they are on the device.
        longest_chunk: updates between two returns to the driver: each keeps its
            metrics, and signals wait.
    """

    agent: AgentBase
    collector: Any
    longest_chunk: int

    @property
    def update_count(self) -> int:
        """Updates of each member."""
        ...

    @property
    def spec(self) -> PolicySpec:
        """Of the environments' spaces."""
        ...

    @property
    def step_count(self) -> int:
        """Environment steps of each member."""
        ...

    @property
    def set_state(self) -> Callable[..., Any]:
        """Continue from the states of all members, an argument for each."""
        ...

    def get_state(self, member: int) -> State:
        """All that the rest of a member's run depends on."""
        ...

    def advance(
        self, updates: int, on_rollout: Callable[[Rollout], None]
    ) -> list[list[Progress]]:
        """Train; the progress of each member (outer) after each update."""
        ...

    def evaluate(
        self, episodes: int, stop: Stop, show: Callable[[int, int, int], None]
    ) -> list[EvaluationResult]:
        """Play episodes with each member as it is."""
        ...

    def remarks(self) -> list[str]:
        """What is to be said beside an evaluation."""
        ...

    def note(self, state: State) -> dict[str, Any]:
        """What a checkpoint says beside a state."""
        ...

    def not_restored(self, note: Mapping[str, Any]) -> list[str]:
        """What is not as it was when this note was made, once the state is set."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class MemberRun(NamedTuple):
    """A member of a run, or the whole of it, on disk.

    Attributes:
        name: in titles, and before what is said of many.
        config: of this member, as the others.
        directory: where it writes.
        callbacks: who watch it.
    """

    name: str
    config: TrainConfig
    directory: RunDirectory
    callbacks: Callbacks


class Driver:
    """A run on disk.

    Args:
        config: Of the run, or of its first member.
        root: Directory of the run; of many, each member's lies in it.
        members: One or many.
        make: Makes what is trained.
        terminal: Where to print.
        callbacks: Asked after those of `config.callbacks`; or a function from a
            member's seed to its own.
        arguments: What the user gives beside the configuration.
        manifest: What members there are, of a compiled run.

    Raises:
        ValueError: a callback can't be used.
    """

    arguments: PythonArguments
    config: TrainConfig
    make: Callable[[], Subject]
    manifest: dict[str, Any] | None
    many: bool
    members: list[MemberRun]
    named: Sequence[NamedMember]
    root: RunDirectory
    terminal: Terminal

    subject: Subject

    def __init__(
        self,
        config: TrainConfig,
        root: RunDirectory,
        members: Sequence[NamedMember],
        make: Callable[[], Subject],
        terminal: Terminal,
        *,
        callbacks: MemberCallbacks = (),
        arguments: PythonArguments = PythonArguments(),  # noqa: B008 (frozen)
        manifest: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.root, self.make, self.terminal = config, root, make, terminal
        self.arguments, self.manifest = arguments, manifest
        self.named, self.many = members, len(members) > 1
        self.members = []
        for name, of_member, _ in members:
            directory = root.at(root.path / name) if self.many else root
            own = callbacks(of_member.seed) if callable(callbacks) else callbacks
            asked = Callbacks([*configured_callbacks(of_member), *own])
            self.given = [label_of(callback) for callback in own]
            self.members.append(MemberRun(name, of_member, directory, asked))
        self.saved: int | None = None
        """Updates that the newest checkpoints have; None if there are none."""
        self._opened: list[MetricsWriter] = []
        self.due: list[Progress] | None = None
        """The last update of each member, as long as its evaluation, and so all that
        follows it, is still to come; part of a checkpoint, so that a resumed run makes
        up for it."""

    def run(self, resume: bool | None) -> list[EvaluationResult]:
        """Train to the end, or until a signal or the callbacks stop it.

        Args:
            resume: See `trpo.runs.train.train_run`.

        Returns:
            The final evaluation of each member; none if there was none.
        """
        with stop_signals() as signals, contextlib.ExitStack() as stack:
            self._open = stack
            directories = [self.root, *(member.directory for member in self.members)]
            for directory in dict.fromkeys(directories):
                stack.enter_context(directory.held_for(resume))
            # Before anything is made, of sizes that may be a stranger's.
            checkpoints = self.checkpoints_to_resume(resume)
            if resume and checkpoints:
                inside = [member.directory for member in self.members]
                require_more(self.config, self.root, inside, checkpoints[0])
            with self._beginning(not checkpoints):
                if not checkpoints:
                    self._describe()
                self.subject = self.make()
            stack.enter_context(closing(self.subject.close))
            if checkpoints:
                self.restore(checkpoints)
            with contextlib.ExitStack() as ends:
                for member in self.members:
                    ends.enter_context(closing(member.callbacks.end))
                with self._beginning(not checkpoints):
                    self._start()
                    self._train(signals)
            return self._finish(signals)

    def _describe(self) -> None:
        """Write what the run and its members are."""
        if self.manifest is not None:
            text = json.dumps(self.manifest, indent=2)
            with self.root.opened() as folder:
                folder.keep(MEMBERS, f"{text}\n".encode())
        self.root.write_config(self.config)
        if self.many:
            for member in self.members:
                member.directory.write_config(member.config)

    @contextlib.contextmanager
    def _beginning(self, new: bool) -> Iterator[None]:
        """A run that never learned leaves nothing in the way of the next."""
        try:
            yield
        except BaseException as cause:
            new &= self._unlearned
            inside = [member.directory for member in self.members if self.many]
            for directory in [*inside, self.root] if new else ():
                with noting_failure(cause):
                    directory.discard()
            raise

    @property
    def _unlearned(self) -> bool:
        return "subject" not in vars(self) or self.subject.update_count == 0

    def _start(self) -> None:
        agent = self.subject.agent
        for index, member in enumerate(self.members):
            save = functools.partial(self._save_in, index)
            run = Run(member.config, agent, member.directory.path, save)
            member.callbacks.start(run)
        # All members' have the same parts.
        self._moment(0).require_saveable()

    # Saving.

    def _moment(self, index: int) -> Moment:
        """A member as it is now."""
        member, subject = self.members[index], self.subject
        state = subject.get_state(index)
        note: dict[str, Any] = {"callbacks": member.callbacks.get_state()}
        note |= {"given_callbacks": self.given} if self.given else {}
        if self.due is not None:
            note["due"] = encoded_state("due", self.due[index].metrics)
        note |= subject.note(state)
        return Moment(member.config, subject.spec, subject.step_count, state, note)

    def _save_in(self, index: int, path: Path, note: dict[str, Any]) -> Path:
        """Write a member's state into another run directory, for its callbacks."""
        moment = self._moment(index)
        directory = self.members[index].directory.at(path)
        return directory.keep_only(moment._replace(note=moment.note | note))

    def write_checkpoints(self) -> list[Path]:
        """Write a checkpoint of each member, and prune older ones."""
        paths = [
            member.directory.save(self._moment(index))
            for index, member in enumerate(self.members)
        ]
        # Only now: at every moment there is a step of which all have a checkpoint.
        for member in self.members:
            member.directory.prune(member.config, self.subject.step_count)
        return paths

    def _save(self, progress: Sequence[Progress] | None = None) -> None:
        """Write checkpoints, and tell the callbacks if they are given the progress."""
        try:
            paths = self.write_checkpoints()
        except (OSError, FileError) as error:
            self._warn_of("no checkpoint was written", error)
            return
        self.saved = self.subject.update_count
        for member, row, path in zip(self.members, progress or (), paths, strict=False):
            member.callbacks.on_checkpoint(row, path)

    def _save_last(self, progress: Sequence[Progress] | None) -> None:
        """Write the run's last checkpoint unless it is there.

        Raises:
            RunDirectoryError: it could not be written.
        """
        if self.saved != self.subject.update_count:
            self._save(progress)
        if self.saved != self.subject.update_count:
            raise RunDirectoryError(
                "`run_dir`: expected room for the last checkpoint, got none. Older "
                f"ones are as they were. Free some space, then {self._how_to_go_on}"
            )

    @property
    def _how_to_go_on(self) -> str:
        """The command that continues from what is saved."""
        if self.saved is None:
            return "nothing is saved yet"
        return f"continue: {to_resume(self.root.path, self.config)}"

    def _warn_of(self, what: str, error: Exception) -> None:
        """Warn of what could not be written."""
        self.terminal.say(
            f"{what} ({error}): training goes on, what was saved before is kept, and "
            "the next time it is tried again",
            style="yellow",
        )

    # Resuming.

    def checkpoints_to_resume(self, resume: bool | None = True) -> list[Checkpoint]:
        """Each member's checkpoint of the newest step that all have; they fit.

        None if the run begins: also if one of many members was killed before each had
        its first.
        """
        directories = [member.directory for member in self.members]
        saved = [d for d in directories if resume is not False and d.has_checkpoint()]
        config, say = self.config, self.terminal.say
        if not saved and (self.many or not resume):
            return []
        if self.many and len(saved) < len(directories):
            first = config.checkpoint_interval * config.num_envs * config.rollout_steps
            if all(directory.load()[0].step <= first for directory in saved):
                return []
        newest = [directory.load() for directory in directories]
        for message in (message for _, broken in newest for message in broken):
            say(f"skipped a broken checkpoint: {message}", style="yellow")
        checkpoints = [checkpoint for checkpoint, _ in newest]
        if self.many:
            # Later ones are of before the members that are behind had saved.
            step = min(checkpoint.step for checkpoint in checkpoints)
            checkpoints = [directory.load(step)[0] for directory in directories]
        lines = []
        for member, checkpoint in zip(self.members, checkpoints, strict=True):
            changed = require_fit(member.config, checkpoint, self.arguments)
            for name, (before, now) in changed.items():
                change = f"{shown(now)}, and no more {shown(before)}"
                lines.append(f"goes on with {name} {change}")
        say(*dict.fromkeys(lines))
        return checkpoints

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints that fit.

        Raises:
            CheckpointError: what they hold is no state of this run.
        """
        subject, first, say = self.subject, checkpoints[0], self.terminal.say
        with restoring(first):
            due = [m for m in map(due_metrics, checkpoints) if m is not None]
            if 0 < len(due) < len(checkpoints):
                raise ValueError("`due`: expected it of all members or of none.")
            subject.set_state(*(checkpoint.arrays for checkpoint in checkpoints))
        self.saved, step = subject.update_count, subject.step_count
        if due:
            self.due = [Progress(self.saved, step, metrics) for metrics in due]
        of_many = f"{len(checkpoints)} members, the first " if self.many else ""
        say(f"continuing {of_many}from {first.path} at step {first.step:,}")
        say(*subject.not_restored(first.metadata), style="yellow")
        for member, checkpoint in zip(self.members, checkpoints, strict=True):
            with restoring(checkpoint):
                member.callbacks.set_state(checkpoint.metadata.get("callbacks", {}))
        if not self._complete:  # What was scored is not what there will be.
            for member in self.members:
                member.directory.remove(EVALUATION)
        say(*not_as_before(self.config, self.given, first), style="yellow")
        self._describe()

    # Training.

    @property
    def _complete(self) -> bool:
        """Whether all updates are made, and nothing that follows them is due."""
        updates = self.subject.update_count
        return self.due is None and updates >= self.config.num_updates

    @property
    def _stopped(self) -> bool:
        """Whether callbacks have stopped the run: each member's, at some update."""
        return all(member.callbacks.stop is not None for member in self.members)

    def _train(self, signals: StopRequest) -> None:
        config, subject, count = self.config, self.subject, len(self.members)
        if self.saved is not None:
            self._writers()  # What is wrong with them is said now.
        done = count * subject.step_count
        progress = None
        with ProgressDisplay(self.terminal, count * config.num_steps, done) as display:
            if self.subject.agent is not None:  # On the host, step by step.
                self.subject.collector.on_step = display.stepping
            try:
                while not (self._complete or self._stopped or signals.is_set()):
                    progress = self._advance(signals, display)
            except BaseException as cause:
                self._save_after(cause)
                raise
        self._save_last(None if self.due else progress)

    def _writers(self) -> list[MetricsWriter]:
        """Of each member's metrics; opened once there is a row.

        A run that never learned leaves no file.
        """
        if not self._opened:
            config = self.config
            columns = COLUMNS + cost_columns(config) + EVALUATION_COLUMNS
            updates = 0 if self.saved is None else self.saved - (self.due is not None)
            logged = updates * config.num_envs * config.rollout_steps
            directories = [member.directory for member in self.members]
            self._opened = [one.metrics_writer(columns, logged) for one in directories]
            for writer in self._opened:
                self._open.enter_context(closing(writer.close))
            self.terminal.say(computed_by(self.config))
        return self._opened

    def _save_after(self, cause: BaseException) -> None:
        """Save the state after the last whole update, if there was one."""
        if self._unlearned:
            return
        with noting_failure(cause):
            if self.saved != self.subject.update_count:
                self._save()
        at = f"stopped at step {self.subject.step_count:,}"
        self.terminal.say(f"{at}; {self._how_to_go_on}")

    def _advance(
        self, signals: StopRequest, display: ProgressDisplay
    ) -> list[Progress]:
        """Train until something is due, and do it; the progress of each member."""
        subject = self.subject
        if self.due is None:
            updates = self.next_stop(subject.update_count) - subject.update_count
            on_rollout = self.members[0].callbacks.on_rollout
            rows = subject.advance(updates, on_rollout)
            for member, of_member in zip(self.members, rows, strict=True):
                member.callbacks.add_logged(of_member[0])
            self.due = [of_member[-1] for of_member in rows]
            self._log([of_member[:-1] for of_member in rows])
        progress = self.due
        results = self._interim(progress, signals)
        if results is None:
            return progress
        self.due = None
        display.show(_average(progress))
        self._log([[row] for row in progress], results)
        ended = self._stopped or signals.is_set()
        if ended or subject.update_count % self.config.checkpoint_interval == 0:
            self._save(progress)
        return progress

    def next_stop(self, update: int) -> int:
        """The next update after which something is due here."""
        config = self.config
        intervals = filter(None, (config.checkpoint_interval, config.eval_interval))
        stops = [(update // n + 1) * n for n in intervals]
        return min([*stops, update + self.subject.longest_chunk, config.num_updates])

    def _interim(
        self, progress: Sequence[Progress], signals: StopRequest
    ) -> list[EvaluationResult] | None:
        """The evaluation due after this update, added to its metrics; [] if none is.

        None if a signal has interrupted it.
        """
        if not self._evaluates_at(progress[0].update):
            return []
        start = time.perf_counter()
        results = self._evaluate(self.config.eval_interval_episodes, signals)
        seconds = time.perf_counter() - start
        if not results or any(result.interrupted for result in results):
            return None
        for row, result in zip(progress, results, strict=True):
            values = (result.mean, result.std, seconds)
            row.metrics.update(zip(EVALUATION_COLUMNS, values, strict=True))
        return results

    def _evaluates_at(self, update: int) -> bool:
        """Whether training is evaluated after this update."""
        interval = self.config.eval_interval
        return interval > 0 and update % interval == 0

    def _evaluate(self, episodes: int, signals: StopRequest) -> list[EvaluationResult]:
        """Of each member; empty if a signal has come before."""
        show = EvaluationDisplay(self.terminal, episodes).show
        return (
            [] if signals.is_set() else self.subject.evaluate(episodes, signals, show)
        )

    def _log(
        self,
        progress: Sequence[Sequence[Progress]],
        results: Sequence[EvaluationResult] = (),
    ) -> None:
        """Tell the callbacks of the rows of each member, and write them.

        With what the callbacks have logged; all are written if one of these fails.
        """
        opened = self._writers()
        told = [(index, row) for index, rows in enumerate(progress) for row in rows]
        try:
            for index, row in told:
                result = results[index] if results else None
                self.members[index].callbacks.on_update(row, result)
        finally:
            for index, row in told:
                metrics = {"update": row.update, **row.metrics}
                if (error := opened[index].write(row.step, metrics)) is not None:
                    self._warn_of("a row of metrics was left out", error)
        for index, row in told:
            self.members[index].callbacks.on_row(row)

    def _finish(self, signals: StopRequest) -> list[EvaluationResult]:
        """Draw, evaluate what is saved, and say what to do next."""
        config, path, say = self.config, self.root.path, self.terminal.say
        for member in self.members:
            with self.terminal.warning_if_it_fails("no learning curve was drawn"):
                title = f"{config.env_id}, {config.backend}, {member.name}"
                member.directory.draw_learning_curve(title)
        steps = self.subject.step_count
        for member in self.members if self._stopped else ():
            # The run is as long as was wanted, so it is scored.
            label = f"{member.name}: " if self.many else ""
            reason = member.callbacks.stop and member.callbacks.stop.reason
            say(f"{label}stopped at step {steps:,}: {reason}")
        ended = self._stopped or self._complete
        results = self._score(signals) if ended and config.eval_episodes else []
        if self.many:
            with self.terminal.warning_if_it_fails("no table or figure of all members"):
                write_members(self.root, config.env_id, self.named, steps, results)
        if not ended:
            say(
                f"stopped at step {steps:,}; everything is saved in {path}",
                f"  continue:   {to_resume(path, config)}",
            )
            return results
        best = ranked(results)[0] if self.many and results else 0
        say(
            f"saved in {path}{', a directory for each member' if self.many else ''}:",
            "  config.json, metrics.csv, tensorboard/, checkpoints/, "
            "learning_curve.png",
            "  evaluate:   trpo evaluate "
            f"{quoted_run(self.members[best].directory.path, config)}",
            f"  train on:   {to_resume(path, config)} --total-steps "
            f"{2 * config.total_steps}",
            f"  watch:      tensorboard --logdir "
            f"{quoted(path if self.many else path / 'tensorboard')}",
        )
        return results

    def _score(self, signals: StopRequest) -> list[EvaluationResult]:
        """The final evaluation, written; none if a signal has interrupted it."""
        results = self._evaluate(self.config.eval_episodes, signals)
        if not results:
            self.terminal.say("interrupted: not evaluated")
        if any(result.interrupted for result in results):
            self.terminal.say(*map(describe, results))
            return []
        step = self.subject.step_count
        for index, result in enumerate(results):
            content = f"{evaluation_json(result)}\n".encode()
            self.members[index].directory.write(EVALUATION, content)
            if self._evaluates_at(self.subject.update_count):
                continue  # The row has one, of as many episodes as those before it.
            mean, std, _ = EVALUATION_COLUMNS
            row = {mean: result.mean, std: result.std}
            if (error := self._writers()[index].write(step, row)) is not None:
                self._warn_of("the evaluation is not in metrics.csv", error)
        if self.many:
            write_ranking(self.terminal, self.named, step, results)
        for result in results if not self.many else ():
            self.terminal.say(f"evaluation at step {step:,}: {describe(result)}")
        self.terminal.say(*(self.subject.remarks() if results else ()))
        return results


def _average(members: Sequence[Progress]) -> Progress:
    """Progress of all members for one line: means, and the worst status."""
    first, *others = members
    if not others:
        return first
    metrics = {
        name: statistics.fmean(m.metrics[name] for m in members)
        for name in ("rollout/episode_return_mean", "policy/kl")
        if all(name in m.metrics for m in members)
    }
    metrics["policy/status"] = max(m.metrics["policy/status"] for m in members)
    return Progress(first.update, first.step * len(members), metrics)
