"""`trpo tune`: settings of an environment, searched for by Optuna.

Optuna is an optional dependency (`pip install "trpo[tune]"`). Its study is made anew
from the run directories each time, in memory: nothing is ever read from `study.db`,
which may be a stranger's. That file is a copy for Optuna's own tools, replaced whole.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from trpo.common.files import FileError, Folder
from trpo.common.signals import Stop
from trpo.common.terminal import Terminal, word
from trpo.common.validation import require_count
from trpo.config.presets import command_arguments, preset_config, settings_of
from trpo.config.run import TrainConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.learning_curves import png, without_tex
from trpo.runs.metrics import METRICS, read_metrics
from trpo.sweeps.pool import Launch, run_each
from trpo.sweeps.ray import executor
from trpo.sweeps.report import write_report
from trpo.sweeps.sweep import FIELDS, SweepRun, assigned, parse_value, shown_value
from trpo.training.progress import EVALUATION_COLUMNS


STUDY, BEST, PRUNED = "study.db", "best.json", "pruned.json"
# Interim evaluations of a run, at most twice as many; none is pruned before a third.
EVALUATIONS = 10
# Whole runs that the default budget is worth.
RUNS = 50
# Failed trials without a good one before them, after which no more are tried.
MOST_FAILED = 3
# Trials in the table.
SHOWN = 5
FIGURES = ("optimization_history", "intermediate_values", "slice", "param_importances")
_TRIAL = re.compile(r"(\d{4,9}),(.+,)?seed=0")


class Between(NamedTuple):
    """A number in a range, whose logarithm is searched; of three digits."""

    low: float
    high: float


Space = Mapping[str, Between | tuple[Any, ...]]


def default_space(env_id: str) -> dict[str, Between | tuple[Any, ...]]:
    """Field -> range or choices, which hold the preset's own value.

    After RL Baselines3 Zoo's for TRPO (`rl_zoo3/hyperparams_opt.py`). Rollouts are
    multiples of the preset's, and the networks' widths are choices of their own.
    """
    preset = settings_of(preset_config(env_id))
    steps = preset["rollout_steps"]
    space: Space = {
        "target_kl": Between(0.001, 0.1),
        "value_lr": Between(1e-4, 1e-2),
        "cg_damping": Between(0.01, 0.5),
        "gamma": (0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
        "gae_lambda": (0.8, 0.9, 0.92, 0.95, 0.98, 0.99, 1.0),
        "cg_iters": (5, 10, 15, 20),
        "value_epochs": (5, 10, 20, 30),
        "rollout_steps": tuple(max(1, steps * n // 4) for n in (1, 2, 4, 8)),
        "policy_layer_sizes": ((64, 64), (256, 256)),
        "critic_layer_sizes": ((64, 64), (256, 256)),
    }
    return {name: _with(part, preset[name]) for name, part in space.items()}


def _with(part: Between | tuple[Any, ...], value: Any) -> Between | tuple[Any, ...]:
    if isinstance(part, Between):
        return Between(min(part.low, value), max(part.high, value))
    return tuple(sorted({*part, value}))


@dataclasses.dataclass(eq=False)
class Trial:
    """One setting, trained with each seed in turn; see `trpo.sweeps.pool.Spec`.

    Attributes:
        search: that it is part of.
        number: in the names of its run directories.
        params: field -> value, as Optuna has it.
        runs: one for each seed.
        optuna_trial: Optuna's own trial; None of one that had ended before.
    """

    search: "Search"
    number: int
    params: dict[str, Any]
    runs: list[SweepRun]
    optuna_trial: Any = None
    _seen: int = 0
    _pruned: bool = False

    @property
    def short_name(self) -> str:
        """What the progress bar calls it."""
        return f"trial {self.number}"

    @property
    def steps(self) -> int:
        """Environment steps of all its runs."""
        return sum(run.steps for run in self.runs)

    def steps_done(self, root: Path) -> int:
        """Environment steps so far."""
        return sum(run.steps_done(root) for run in self.runs)

    def check(self, root: Path) -> None:
        """Refuse a directory of another configuration."""
        for run in self.runs:
            run.check(root)

    def is_pruned(self, root: Path) -> bool:
        """Whether it was worse than others half way, and was left."""
        return any(os.path.lexists(root / run.name / PRUNED) for run in self.runs)

    def is_done(self, root: Path) -> bool:
        """Whether nothing is left to do."""
        return self.is_pruned(root) or all(run.is_done(root) for run in self.runs)

    def value(self, root: Path) -> float:
        """Mean return of the final evaluations."""
        return math.fsum(run.result(root).mean for run in self.runs) / len(self.runs)

    def interim(self, root: Path) -> dict[int, float]:
        """Interim evaluations: tenths of a run, counted on over seeds, -> return."""
        values = {}
        for i, run in enumerate(self.runs):
            try:
                rows = read_metrics(root / run.name / METRICS)
            except FileError:  # Its run says what is wrong with it.
                continue
            for row in rows:
                tenths = round(EVALUATIONS * row["step"] / run.steps)
                value = row.get(EVALUATION_COLUMNS[0], math.nan)
                if row["step"] < run.steps and math.isfinite(value):
                    values[i * EVALUATIONS + tenths] = value
        return values

    def run(self, root: Path, stop: Stop) -> bool:
        """Make or continue it; whether it is done, or was pruned.

        Raises:
            RuntimeError: a run's process failed.
        """
        either: Any = SimpleNamespace(
            is_set=lambda: stop.is_set() or self.should_prune(root)
        )
        for run in self.runs:
            try:
                done = run.is_done(root) or run.run(root, either)
            except RuntimeError:
                self.search.failed(self)
                raise
            if not done:
                if self._pruned and not stop.is_set():
                    RunDirectory(root / run.name).write(PRUNED, b"{}\n")
                return self.is_pruned(root)
        return True

    def should_prune(self, root: Path) -> bool:
        """Whether to prune it: its interim evaluations are below the others' median."""
        tenths = EVALUATIONS * self.steps_done(root) // self.steps
        if not self._pruned and tenths > self._seen:
            self._seen = tenths
            self._pruned = self.search.should_prune(self, self.interim(root))
        return self._pruned


@dataclasses.dataclass(eq=False)
class Search:
    """Asks Optuna for settings and tells it what they were worth.

    Attributes:
        env_id: Gymnasium id.
        root: directory of all run directories.
        space: field -> range or choices.
        seeds: seeds from 0 up, of each trial.
        budget: environment steps of all runs; None for those of `RUNS` whole trials.
        overrides: fields that are the same in all runs.
        launch: starts a run's process.
        terminal: where to print.
        trials: all that there are.

    Raises:
        ValueError: Optuna is not installed; a setting or the budget is out of range.
    """

    env_id: str
    root: Path
    space: Space
    seeds: int
    budget: int | None
    overrides: Mapping[str, Any]
    launch: Launch
    terminal: Terminal
    trials: list[Trial] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise ValueError(
                "`tune`: expected Optuna to be installed, found none: "
                'pip install "trpo[tune]".'
            )
        require_count("seeds", self.seeds)
        if "total_steps" in self.space:
            raise ValueError(
                "`values`: expected one total_steps, as trials of other lengths can't "
                "be compared, got several."
            )
        for params in ({}, *({n: v} for n, part in self.space.items() for v in part)):
            self._trial(0, params)
        self._preset = settings_of(self.config({}, 0))
        self._steps = self.seeds * self._preset["total_steps"]
        self.allowed_steps = RUNS * self._steps if self.budget is None else self.budget
        require_count("budget", self.allowed_steps, self._steps, 2**63 - 1)
        self._study, self._storage = _new_study(self.env_id)
        self._distributions = {n: _distribution(v) for n, v in self.space.items()}
        self._lock = threading.RLock()
        self._failures = 0

    def config(self, params: Mapping[str, Any], seed: int) -> TrainConfig:
        """The configuration of a run, with evaluations along the way."""
        values = {**self.overrides, **{n: _value(v) for n, v in params.items()}}
        config = preset_config(self.env_id, seed=seed, **values)
        interval = config.eval_interval or max(1, config.num_updates // EVALUATIONS)
        return dataclasses.replace(config, eval_interval=interval)

    def source(self) -> Iterator[Trial]:
        """Unfinished trials of a killed process, then new ones within the budget."""
        unfinished = self._recover()
        self._publish()
        done = len(self.trials) - len(unfinished)
        self.terminal.say(f"{done} trials are done already, {len(unfinished)} go on")
        yield from map(self._ask, unfinished)
        while self._spent() + self._steps <= self.allowed_steps:
            if self._failures >= MOST_FAILED and not self.completed:
                return
            number = 1 + max((trial.number for trial in self.trials), default=-1)
            trial = self._trial(number, {} if self.trials else self._preset_params())
            self.trials.append(trial)
            yield self._ask(trial)

    def _preset_params(self) -> dict[str, Any]:
        """The preset's values of what is searched, where the space has them."""
        params = {name: _param(self._preset[name]) for name in self.space}
        return {n: v for n, v in params.items() if self._fits(n, v)}

    def _fits(self, name: str, value: Any) -> bool:
        part = self.space[name]
        if isinstance(part, Between):
            return part.low <= value <= part.high
        return value in map(_param, part)

    def _trial(self, number: int, params: dict[str, Any]) -> Trial:
        runs = [
            SweepRun(
                ",".join([f"{number:04d}", *assigned(params), f"seed={seed}"]),
                self.config(params, seed),
                {"trial": number},
                self.launch,
            )
            for seed in range(self.seeds)
        ]
        return Trial(self, number, params, runs)

    def _ask(self, trial: Trial) -> Trial:
        """Have Optuna choose the parameters that the trial has none of."""
        with self._lock:
            if trial.params:
                self._study.enqueue_trial(trial.params)
            # Of its number: a search that was killed goes on as it would have.
            self._study.sampler = _sampler(len(self._study.get_trials(deepcopy=False)))
            trial.optuna_trial = self._study.ask(self._distributions)
            whole = self._trial(trial.number, trial.optuna_trial.params)
            trial.params, trial.runs = whole.params, whole.runs
        return trial

    def _recover(self) -> list[Trial]:
        """Tell Optuna of the trials in the directory; returns those that go on.

        Raises:
            ValueError: one is of another search.
        """
        optuna, unfinished, root = _optuna().trial, [], self.root
        for trial in self._on_disk():
            self.trials.append(trial)
            if not trial.is_done(root):
                unfinished.append(trial)
                continue
            interim, pruned = trial.interim(root), trial.is_pruned(root)
            last = interim.get(max(interim, default=0))
            self._study.add_trial(
                optuna.create_trial(
                    state=optuna.TrialState["PRUNED" if pruned else "COMPLETE"],
                    value=last if pruned else trial.value(root),
                    params=trial.params,
                    distributions=self._distributions,
                    intermediate_values=interim,
                )
            )
        return unfinished

    def _on_disk(self) -> Iterator[Trial]:
        """The trials that have run directories, in order; see `_recover`."""
        with Folder(self.root) as folder:
            names = folder.names()
        for name in names:
            match, path = _TRIAL.fullmatch(name), self.root / name
            if match and os.path.lexists(path / "config.json"):
                settings = settings_of(RunDirectory(path).shown_config())
                params = {field: _param(settings[field]) for field in self.space}
                trial = self._trial(int(match[1]), params)
                fits = all(self._fits(field, value) for field, value in params.items())
                if not fits or trial.runs[0].name != name:
                    raise ValueError(
                        f"`run_dir`: expected {path} to be of this search, got a trial "
                        "of another. Give another --run-dir."
                    )
                trial.check(self.root)
                yield trial

    def _spent(self) -> int:
        """Environment steps that the trials take; those that go on, to their end."""
        return sum(
            trial.steps_done(self.root) if trial.is_pruned(self.root) else self._steps
            for trial in self.trials
        )

    def should_prune(self, trial: Trial, interim: Mapping[int, float]) -> bool:
        """Report interim evaluations; whether they are worse than the others'."""
        with self._lock:
            optuna_trial = trial.optuna_trial
            reported = self._study.get_trials(deepcopy=False)[optuna_trial.number]
            for step in sorted(interim.keys() - reported.intermediate_values.keys()):
                optuna_trial.report(interim[step], step)
            return bool(interim) and optuna_trial.should_prune()

    def failed(self, trial: Trial) -> None:
        """Note a trial whose run failed."""
        self._failures += 1
        self._tell(trial, state="FAIL")

    def finished(self, trial: Trial) -> str:
        """Tell what a trial that is done was worth; returns a line to print."""
        if trial.is_pruned(self.root):
            self._tell(trial, state="PRUNED")
            done, steps = trial.steps_done(self.root), trial.steps
            return f"{trial.short_name}: pruned after {done:,} of {steps:,} steps"
        self.should_prune(trial, trial.interim(self.root))
        value = trial.value(self.root)
        self._tell(trial, value)
        best = ", the best so far" if value >= self.completed[0][1] else ""
        return f"{trial.short_name}: return {value:.2f}{best}"

    def _tell(self, trial: Trial, value: float | None = None, state: str = "") -> None:
        state = _optuna().trial.TrialState[state or "COMPLETE"]
        with self._lock:
            self._study.tell(trial.optuna_trial, value, state)
            try:
                self._publish()
            except (OSError, FileError) as error:
                message = f"{STUDY} was not written ({error}): the search goes on"
                warnings.warn(message, stacklevel=2)

    def _publish(self) -> None:
        """Write the study's file anew, whatever has its name."""
        connection = self._storage.engine.raw_connection()
        with contextlib.closing(connection), Folder(self.root) as folder:
            folder.write(STUDY, connection.driver_connection.serialize())

    @property
    def completed(self) -> list[tuple[Trial, float]]:
        """Trials that were trained to the end, and their return; the best first."""
        pairs = [
            (trial, trial.value(self.root))
            for trial in self.trials
            if trial.is_done(self.root) and not trial.is_pruned(self.root)
        ]
        return sorted(pairs, key=lambda pair: -pair[1])

    def report(self) -> None:
        """Write tables, figures and the best settings; print how to train with them."""
        if not self.completed:
            self.terminal.say("no trial was trained to its end yet")
            return
        shown = self.completed[:SHOWN]
        rows = [run.result(self.root) for trial, _ in shown for run in trial.runs]
        self.terminal.table(*write_report(rows, self.root))
        for name in FIGURES:
            with self.terminal.warning_if_it_fails(f"{name}.png was not drawn"):
                content = _figure(self._study, name)
                with Folder(self.root) as folder:
                    folder.write(f"{name}.png", content)
        trial, value = self.completed[0]
        settings = {**self.overrides, **{n: _value(v) for n, v in trial.params.items()}}
        best = {
            "name": f"tuned-{self.env_id.lower()}",
            "summary": f"{self.env_id}: the best of {len(self.trials)} trials of "
            f"{self._steps:,} steps, return {value:.2f}",
            "env_id": self.env_id,
            "settings": {n: v for n, v in settings.items() if n != "modules"},
        }
        config = preset_config(self.env_id, **settings)
        options = ["--backend", config.backend, "--seeds", "5", "--values"]
        if config.modules:
            options = ["--module", *config.modules, *options]
        values = assigned({n: v for n, v in settings.items() if n in FIELDS})
        with Folder(self.root) as folder:
            folder.write(BEST, f"{json.dumps(best, indent=2)}\n".encode())
        self.terminal.say(
            f"the best of {len(self.trials)} trials is {trial.number}, with a return "
            f"of {value:.2f}; see {self.root / BEST}",
            f"  train:    trpo train {_words(*command_arguments(config))}",
            # The highest of many noisy values is in part the luckiest.
            f"  confirm:  trpo sweep {_words(self.env_id, *options, *values)}",
        )


def _words(*arguments: str) -> str:
    return " ".join(map(word, arguments))


def _param(value: Any) -> Any:
    """A value as Optuna has it, whose choices are no tuples."""
    return shown_value(value) if isinstance(value, tuple | list) else value


def _value(param: Any) -> Any:
    return parse_value(param) if isinstance(param, str) else param


def _optuna() -> Any:
    """Optuna, silent: what there is to say, the terminal says."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _distribution(part: Between | Sequence[Any]) -> Any:
    kinds = _optuna().distributions
    if isinstance(part, Between):
        return kinds.FloatDistribution(part.low, part.high, log=True)
    return kinds.CategoricalDistribution([_param(value) for value in part])


def _new_study(name: str) -> tuple[Any, Any]:
    """A study in memory, of one connection that all threads share; and its storage."""
    optuna, pools = _optuna(), importlib.import_module("sqlalchemy.pool")
    options = {
        "poolclass": pools.StaticPool,
        "connect_args": {"check_same_thread": False},
    }
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=options)
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=EVALUATIONS // 3)
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", pruner=pruner
    )
    return study, storage


def _sampler(seed: int) -> Any:
    """Tree-structured Parzen estimator, whose numbers have three digits."""
    base: Any = _optuna().samplers.TPESampler

    class Rounding(base):
        def sample_independent(self, *args: Any) -> Any:
            return _rounded(super().sample_independent(*args), args[-1])

        def sample_relative(self, *args: Any) -> dict[str, Any]:
            params = super().sample_relative(*args)
            return {name: _rounded(v, args[-1][name]) for name, v in params.items()}

    return Rounding(seed=seed)


def _rounded(value: Any, distribution: Any) -> Any:
    if hasattr(distribution, "choices"):
        return value
    return min(max(float(f"{value:.3g}"), distribution.low), distribution.high)


@without_tex
def _figure(study: Any, name: str) -> bytes:
    """One of Optuna's figures."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    plots = importlib.import_module("optuna.visualization.matplotlib")
    # That they may change, and of axes of few trials.
    with warnings.catch_warnings(action="ignore"):
        axes = getattr(plots, f"plot_{name}")(study)
    figure = getattr(axes, "flat", [axes])[0].figure
    try:
        return png(figure)
    finally:
        pyplot.close(figure)


def run_tune(
    env_id: str,
    root: Path,
    space: Space,
    *,
    seeds: int = 1,
    budget: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Search for settings, `workers` trials at a time; write and print the best.

    Ctrl-C lets the runs save and exit; the same call goes on, and so it does after the
    process was killed, or with a larger budget.

    Args:
        env_id: Gymnasium id; the search begins with its preset.
        root: Directory of all run directories, the study, tables and figures.
        space: Field -> range or choices, see `default_space`.
        seeds: Seeds from 0 up, of each trial; their mean is compared.
        budget: Environment steps of all runs; by default those of `RUNS` whole trials.
        workers: Trials at a time; see `trpo.sweeps.ray.executor`.
        ray_address: Likewise.
        overrides: Fields that are the same in all runs.

    Returns:
        As `trpo.sweeps.pool.run_each`.

    Raises:
        ValueError: Optuna is not installed, a setting is out of range, the directory is
            in use or of another search, or there is no cluster.
    """
    terminal, root = Terminal(), Path(root)
    with executor(ray_address, workers) as (launch, workers):
        search = Search(
            env_id, root, space, seeds=seeds, budget=budget, overrides=overrides or {},
            launch=launch, terminal=terminal,
        )  # fmt: skip
        status = run_each(
            search.source(), search.trials, search.allowed_steps, root, workers,
            terminal, search.finished,
        )  # fmt: skip
    search.report()
    return status
