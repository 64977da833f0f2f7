"""The training loop: collect, estimate advantages, update, log, save."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from trpo.agent.base import AgentBase
from trpo.agent.make import make_agent
from trpo.agent.state import Snapshot
from trpo.callbacks.base import CallbackLike, Callbacks, Run, Stop
from trpo.common import signals
from trpo.common.closing import closing, noting_failure
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.config.schedules import SCHEDULED, Schedule
from trpo.data.advantages import (
    generalized_advantages,
    normalize_advantages,
    standard_deviation,
)
from trpo.data.batch import AnyBatch, batch_of, valid_rows
from trpo.data.normalization import ReturnScaler
from trpo.data.rollout import Rollout
from trpo.distributed.ranks import ALONE, Alone, share_of
from trpo.environments.lasting_state import not_restored
from trpo.environments.make import make_vector_environment
from trpo.environments.source import EnvironmentSource
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.evaluation import EvaluationResult, as_in_training, evaluate
from trpo.rollout.transitions import Limits, NonFiniteTransitionError
from trpo.spaces.spaces import PolicySpec
from trpo.training import ranks as rank_training
from trpo.training.costs import CostTraining
from trpo.training.progress import AfterUpdate, Progress, loop_metrics
from trpo.training.python_arguments import PythonArguments
from trpo.training.state import (
    PARTS,
    RECENT_EPISODES,
    Counters,
    Layout,
    check_training_state,
    part_of,
    unrecorded,
)


# Values of environments that one line names.
MOST_NAMED = 8


OnRollout = Callable[[Rollout], None] | None


class UpdateInputs(NamedTuple):
    """The batch of an update, made from a rollout.

    Attributes:
        batch: for the update; flattened, or [T, B] for an agent with a memory.
        advantage_std: standard deviation of advantages before they are normalised, in
            units of scaled returns.
    """

    batch: AnyBatch
    advantage_std: float


class Trainer:
    """An agent, its environments, and all that the next update depends on.

    Args:
        config: Configuration of the run.
        policy_network: The user's own, or what makes it; see `trpo.agent.make`.
        value_network: Likewise.
        ranks: This process and the others, if there are any: each steps its share of
            the environments, and all call the same methods.
        env: A function that makes an environment, in place of the configuration's id,
            which then only names it.
        schedules: Of `target_kl`, `value_lr`, `entropy_coefficient`, by name: functions
            of the fraction of the run that remains, from 1 down, asked before each
            update.

    Raises:
        ValueError: the environment, device or a hyperparameter is not usable.
        MissingBackendError: the framework is not installed.
    """

    agent: AgentBase
    arguments: PythonArguments
    collector: RolloutCollector
    config: TrainConfig
    costs: CostTraining | None
    counters: Counters
    env: Any
    ranks: Alone
    return_scaler: ReturnScaler
    share: slice
    source: EnvironmentSource

    longest_chunk = 1
    """Updates after which a driver is asked what is due."""

    def __init__(
        self,
        config: TrainConfig,
        policy_network: Any = None,
        value_network: Any = None,
        ranks: Alone = ALONE,
        env: Any = None,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        self.arguments = PythonArguments(env, policy_network, value_network, schedules)
        config = self.arguments.applied(config)
        self.config, self.ranks = config, ranks
        self.source = EnvironmentSource.of_run(config, env)
        self.share = share_of(config.num_envs, ranks.rank, ranks.size)
        self.env = make_vector_environment(
            self.source,
            config.num_envs,
            seed=config.seed,
            vectorization=config.vectorization,
            timeout=config.environment_timeout,
            max_restarts=config.environment_restarts,
            share=self.share,
        )
        try:
            distribution = config.agent.policy_distribution
            limited = config.agent.cost_limit is not None
            limits = Limits.of(config.agent.dtype, config.normalize_observations)
            self.collector = RolloutCollector(
                self.env, distribution, config.on_bad_data, limited, limits
            )
            self.agent = make_agent(
                config, self.collector.spec, policy_network, value_network
            )
            self.agent.checks_advantages = False  # They are as configured here.
            if ranks.size > 1:
                self.agent.shard(ranks, config.num_envs)
        except BaseException as cause:
            with noting_failure(cause):
                self.env.close()
            raise
        self.return_scaler = ReturnScaler(self.env.num_envs, config.agent.gamma)
        self.costs = None
        if limited:
            envs = self.env.num_envs
            self.costs = CostTraining(config, RECENT_EPISODES, envs, ranks)
        self.counters = Counters()
        self._interrupted = False
        self.restarted_on_resume: tuple[int, ...] = ()

    @property
    def spec(self) -> PolicySpec:
        """Of the environments' spaces."""
        return self.collector.spec

    @property
    def update_count(self) -> int:
        """Updates done."""
        return self.counters.updates

    @property
    def parts(self) -> dict[str, Any]:
        """All that has a state, by its name in one; the agent's names have none."""
        parts = {name: getattr(self, part.attribute) for name, part in PARTS.items()}
        return {n: p for n, p in parts.items() if p is not None} | {"": self.agent}

    @property
    def step_count(self) -> int:
        """Environment steps done, over all environments."""
        return self.update_count * self.steps_per_update

    @property
    def steps_per_update(self) -> int:
        """Environment steps of a rollout, over all environments."""
        return self.config.num_envs * self.config.rollout_steps

    def run(
        self,
        callbacks: CallbackLike | Sequence[CallbackLike] = (),
        num_updates: int | None = None,
    ) -> Stop | None:
        """Train until the configured number of updates (or `num_updates`) is done.

        Nothing is evaluated or written: `trpo.runs.train.train_run` does that too.

        Args:
            callbacks: Asked after each rollout and update, see `trpo.callbacks.base`; a
                function is called after each update, and returns False to stop there.
            num_updates: Total number of updates to stop at, counted from the start: a
                trainer goes on where it has stopped, for ten more by `num_updates=
                trainer.update_count + 10`; beyond the configured number rates stay as
                in the last update.

        Returns:
            What stopped it before, if anything did.

        Raises:
            ValueError: something is no callback, or answered what is no answer.
        """
        target = self.config.num_updates if num_updates is None else num_updates
        asked = Callbacks(callbacks)
        with closing(asked.end):
            asked.start(Run(self.config, self.agent))
            while self.update_count < target and asked.stop is None:
                progress = self.train_once(asked.on_rollout)
                asked.on_update(progress)
                asked.on_row(progress)
        return asked.stop

    def advance(
        self, updates: int, on_rollout: OnRollout = None
    ) -> list[list[Progress]]:
        """`train_once` so many times; a list of one, see `evaluate`."""
        return [[self.train_once(on_rollout) for _ in range(updates)]]

    def train_once(self, on_rollout: OnRollout = None) -> Progress:
        """One iteration: a rollout, one update of policy and critic, statistics.

        Whatever it raises, and if it is interrupted, `get_state` is what it was
        before: it can be saved. Environments that still work go on from there.

        Args:
            on_rollout: Called between rollout and update.

        Raises:
            NonFiniteTransitionError: an environment returned a NaN or an infinity.
            EnvironmentWorkerError: an environment failed.
        """
        if self._interrupted:
            self.set_state(self.get_state())
        before = self.snapshot()
        self._interrupted = True
        try:
            progress = self._iterate(on_rollout, before[""])
        except BaseException:
            self.restore(before)
            raise
        self._interrupted = False
        return progress

    def _iterate(self, on_rollout: OnRollout, before: Snapshot) -> Progress:
        start = time.perf_counter()
        rollout = rank_training.together(
            lambda: self.collector.collect(self.agent, self.config.rollout_steps),
            self.ranks,
        )
        if on_rollout is not None:
            on_rollout(rollout)
        collected = time.perf_counter()
        batch, advantage_std = self.prepare_batch(rollout)
        schedules = self.arguments.schedules
        numbers = self.config.numbers_at(self.update_count, advantage_std, schedules)
        rates = {name: getattr(numbers, name) for name in SCHEDULED}
        more: dict[str, Any] = {"before": before}
        if self.ranks.size > 1 and rollout.memory is None:
            more["rows"] = rank_training.rows_of(rollout.valid, self.share, self.ranks)
        metrics = self.agent.update(batch, **rates, **more)
        # Only now: during rollout and update the statistics are frozen, so that the
        # policy that acted is the policy that is improved, and the ratio starts at 1.
        self.agent.observe(valid_rows(rollout.valid, rollout.obs))
        self.counters.add(rollout.episodes)
        end = time.perf_counter()
        metrics |= loop_metrics(
            AfterUpdate(
                self.counters.episodes,
                self.counters.means(),
                self.return_scaler.scale,
                advantage_std,
                numbers,
                steps_per_second=self.steps_per_update / (end - start),
                acting_seconds=collected - start,
                learning_seconds=end - collected,
                rollout=rollout,
                success_rate=self.counters.success_rate(),
            )
        )
        if self.costs is not None:
            metrics |= self.costs.metrics()
        return Progress(self.update_count, self.step_count, metrics)

    def prepare_batch(self, rollout: Rollout) -> UpdateInputs:
        """The update's batch: rewards scaled, advantages and returns estimated."""
        config = self.config
        rewards = rollout.rewards
        if not self.ranks.largest(float(rollout.valid.any())):
            raise NonFiniteTransitionError(
                "`on_bad_data`: expected some steps to learn from, got none: every "
                "environment's episode had a NaN or an infinity in it."
            )
        if config.scale_returns:
            done = rollout.terminated | rollout.truncated
            self.return_scaler.update(rewards, done, rollout.valid, self.ranks)
            rewards = rewards / self.return_scaler.scale
        advantages, returns = generalized_advantages(
            rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            gamma=config.agent.gamma,
            gae_lambda=config.agent.gae_lambda,
        )
        samples = advantages[rollout.valid]
        deviation = standard_deviation(samples, self.ranks)
        if config.agent.normalize_advantages:
            samples = normalize_advantages(samples, self.ranks)
        batch = batch_of(rollout, returns, advantages, samples)
        if self.costs is not None:
            batch = self.costs.batch(batch, rollout)
        return UpdateInputs(batch, deviation)

    def get_state(self, member: int = 0) -> dict[str, np.ndarray]:
        """Everything that the rest of the run depends on, under canonical names.

        Args:
            member: Number of the member; a trainer has but one.
        """
        state = {
            f"{part}.{name}".removeprefix("."): array
            for part, stateful in self.parts.items()
            for name, array in stateful.get_state().items()
        }
        if self.ranks.size == 1:
            return state
        return rank_training.whole_state(
            state, self.share.start, self.agent.digest(), self.ranks
        )

    def snapshot(self) -> dict[str, Any]:
        """All that `get_state` is made of, as it is now, for `restore`; cheap."""
        return {name: part.snapshot() for name, part in self.parts.items()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Make every byte of `get_state` what it was."""
        for name, part in self.parts.items():
            part.restore(snapshot[name])

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """Continue from `state`, which either backend may have written.

        Whatever it raises, `get_state` is what it was before.

        Returns:
            Indices of environments whose open episode could not be restored.

        Raises:
            ValueError: the state does not fit this configuration, or is none that a run
                could have; names the entry.
            EnvironmentWorkerError: an environment failed.
        """
        state = self.check_state(state)
        if self.ranks.size > 1:
            state = rank_training.part_of_state(state, self.share)
        before = self.snapshot()
        # Environments are moved: what fails meanwhile brings them back later.
        self._interrupted = True
        try:
            said = {n: p.set_state(part_of(state, n)) for n, p in self.parts.items()}
            lost = said["environment"]
            lost = rank_training.every_rank(lost, self.share.start, self.ranks)
        except BaseException:
            self.restore(before)
            raise
        self._interrupted, self.restarted_on_resume = False, lost
        return lost

    def evaluate(
        self,
        episodes: int,
        stop: signals.Stop | None = None,
        show: Callable[[int, int, int], None] | None = None,
    ) -> list[EvaluationResult]:
        """Play episodes with the agent as it is, by `trpo.rollout.evaluation.evaluate`.

        A list of one: the driver of a run on disk takes one of each member.
        """
        config = self.config
        result = evaluate(
            self.agent,
            self.source,
            episodes=episodes,
            seed=config.seed,
            max_steps=config.eval_max_steps,
            stop=stop,
            show=show,
            **as_in_training(config),
        )
        return [result]

    def remarks(self) -> list[str]:
        """What is to be said beside an evaluation: what training itself has cost."""
        if self.costs is None or not len(self.costs.recent):
            return []
        recent = self.costs.recent
        return [
            "  by the most likely actions; training, which samples them, cost "
            f"{np.mean(recent):.2f} in its last {len(recent)} episodes on average"
        ]

    def note(self, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What a checkpoint says beside a state; nothing is restored from it.

        Environments whose open episode can't be restored, and those that could not be
        when this run was resumed; networks that the user has brought; and lasting
        values of the first environments, which only between updates are where the state
        says.
        """
        return {
            **self.arguments.note(self.config),
            "episodes": {
                "restarts_on_resume": unrecorded(state),
                "restarted_on_resume": list(self.restarted_on_resume),
            },
            "lasting": []
            if self._interrupted
            else self.collector.lasting(changed=True),
        }

    def not_restored(self, note: Mapping[str, Any]) -> list[str]:
        """What is not as it was when this note was made, once the state is set."""
        lines = []
        if self.restarted_on_resume:
            reasons, lost = self.collector.lost, self.restarted_on_resume
            listed = "; ".join(f"{i}: {reasons[i]}" for i in lost if i in reasons)
            lines.append(
                f"environments {list(lost)} could not be restored in the middle of "
                f"their episodes and start new ones: {self.config.env_id} is not "
                f"restored exactly ({listed})"
            )
        if names := not_restored(note.get("lasting"), self.collector.replayed):
            listed = ", ".join(f"`{shown(n)[1:-1]}`" for n in names[:MOST_NAMED])
            more = len(names) - MOST_NAMED
            lines.append(
                f"not restored: {listed}{f' and {more} more' if more > 0 else ''}. "
                "What an environment keeps beyond its episode is in no checkpoint, and "
                "is as in a new one. If steps depend on it, the run is not what it "
                "would have been: have `reset` set it, or leave it out"
            )
        return lines

    def check_state(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copies of the arrays of a whole run's state, which is one of this run's.

        Raises:
            ValueError: it is none; names the entry.
        """
        obs = self.collector.obs.dtype.name
        layout = Layout(self.config, self.collector.spec, obs, self.agent.get_state())
        if isinstance(state, Mapping):
            state = self.agent.backend.canonical(state)
        return check_training_state(state, layout)

    def __enter__(self) -> Self:
        """The trainer; its environments are closed as the block ends."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close the environments; an error of the block stays the one told."""
        if error is None:
            self.close()
            return
        with noting_failure(error):
            self.close()

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
