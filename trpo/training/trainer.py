"""The training loop: collect, estimate advantages, update, log, save."""

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trpo.agent.make import make_agent
from trpo.callbacks.base import CallbackLike, Callbacks, Run, Stop
from trpo.common.closing import closing, noting_failure
from trpo.config.run import TrainConfig
from trpo.data.advantages import (
    generalized_advantages,
    normalize_advantages,
    standard_deviation,
)
from trpo.data.batch import (
    Batch,
    ConstrainedBatch,
    SequenceBatch,
    batch_of,
)
from trpo.data.normalization import ReturnScaler
from trpo.data.rollout import Rollout
from trpo.distributed.ranks import ALONE, Alone, share_of
from trpo.environments.make import make_vector_environment
from trpo.environments.source import EnvironmentSource
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import Limits, NonFiniteTransitionError
from trpo.training import ranks as rank_training, state as training_state
from trpo.training.costs import CostTraining
from trpo.training.progress import Progress
from trpo.training.state import RECENT_EPISODES, agent_state, mark, part_of, return_to
from trpo.training.state_checks import Layout, check_training_state


class UpdateInputs(NamedTuple):
    """The batch of an update, made from a rollout.

    Attributes:
        batch: for the update; flattened, or [T, B] for an agent with a memory.
        advantage_std: standard deviation of advantages before they are normalised, in
            units of scaled returns.
    """

    batch: Batch | SequenceBatch | ConstrainedBatch
    advantage_std: float


class Trainer:
    """An agent, its environments, and all that the next update depends on.

    Args:
        config: Configuration of the run.
        policy_network: The user's own, see `trpo.agent.base.AgentBase`.
        value_network: Likewise.
        ranks: This process and the others, if there are any: each steps its share of
            the environments, and all call the same methods.
        env: A function that makes an environment, in place of the configuration's id,
            which then only names it.

    Raises:
        ValueError: the environment, device or a hyperparameter is not usable.
        MissingBackendError: the framework is not installed.
    """

    def __init__(
        self,
        config: TrainConfig,
        policy_network: Any = None,
        value_network: Any = None,
        ranks: Alone = ALONE,
        env: Any = None,
    ) -> None:
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
        self.update_count = 0
        self.episode_count = 0
        self.recent: collections.deque = collections.deque(maxlen=RECENT_EPISODES)
        self.successes: collections.deque = collections.deque(maxlen=RECENT_EPISODES)
        self._interrupted = False
        self.restarted_on_resume: tuple[int, ...] = ()

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
            num_updates: Total number of updates to stop at, counted from the start.

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
                asked.on_update(self.train_once(asked.on_rollout))
        return asked.stop

    def train_once(
        self, on_rollout: Callable[[Rollout], None] | None = None
    ) -> Progress:
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
        before = mark(self)
        self._interrupted = True
        try:
            progress = self._iterate(on_rollout)
        except BaseException:
            return_to(self, before)
            raise
        self._interrupted = False
        return progress

    def _iterate(self, on_rollout: Callable[[Rollout], None] | None) -> Progress:
        start = time.perf_counter()
        rollout = rank_training.together(
            lambda: self.collector.collect(self.agent, self.config.rollout_steps),
            self.ranks,
        )
        if on_rollout is not None:
            on_rollout(rollout)
        collected = time.perf_counter()
        batch, advantage_std = self.prepare_batch(rollout)
        numbers = self.config.numbers_at(self.update_count, advantage_std)
        rates = {"target_kl": numbers.target_kl, "value_lr": numbers.value_lr}
        more = {}
        if self.ranks.size > 1 and rollout.memory is None:
            more["rows"] = rank_training.rows_of(rollout.valid, self.share, self.ranks)
        metrics = self.agent.update(batch, **rates, **more)
        # Only now: during rollout and update the statistics are frozen, so that the
        # policy that acted is the policy that is improved, and the ratio starts at 1.
        self.agent.observe(rollout.obs[rollout.valid])
        self.update_count += 1
        self.episode_count += len(rollout.episodes)
        self.recent.extend(episode[:2] for episode in rollout.episodes)
        told = (episode.success for episode in rollout.episodes)
        self.successes.extend(success for success in told if success is not None)
        end = time.perf_counter()
        metrics |= {
            "rollout/episodes": float(self.episode_count),
            "rollout/return_scale": self.return_scaler.scale,
            "rollout/advantage_std": advantage_std,
            "policy/target_kl": numbers.target_kl,
            "rollout/dropped_steps": float(rollout.dropped_steps),
            "rollout/environment_restarts": float(rollout.restarts),
            "time/steps_per_second": self.steps_per_update / (end - start),
            "time/acting_and_stepping_seconds": collected - start,
            "time/learning_seconds": end - collected,
        }
        if self.costs is not None:
            metrics |= self.costs.metrics()
        if self.recent:
            returns, lengths = np.array(self.recent).T
            metrics["rollout/episode_return_mean"] = float(returns.mean())
            metrics["rollout/episode_length_mean"] = float(lengths.mean())
        if self.successes:
            metrics["rollout/success_rate"] = float(np.mean(self.successes))
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

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the rest of the run depends on, under canonical names."""
        state = self.agent.get_state()
        for prefix, part in (
            ("return_scaler", self.return_scaler.get_state()),
            ("environment", self.collector.get_state()),
            ("costs", {} if self.costs is None else self.costs.get_state()),
        ):
            state |= {f"{prefix}.{name}": array for name, array in part.items()}
        state |= training_state.counters_state(
            self.update_count, self.episode_count, self.recent, self.successes
        )
        if self.ranks.size == 1:
            return state
        return rank_training.whole_state(
            state, self.share.start, self.agent.digest(), self.ranks
        )

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
        before = mark(self)
        # Environments are moved: what fails meanwhile brings them back later.
        self._interrupted = True
        try:
            lost = self._load_state(state)
        except BaseException:
            return_to(self, before)
            raise
        self._interrupted, self.restarted_on_resume = False, lost
        return lost

    def lasting(self) -> list[dict[str, str] | None]:
        """Lasting values of the first environments, for `not_restored`.

        Only between updates are they where the state says.
        """
        return [] if self._interrupted else self.collector.lasting(changed=True)

    def check_state(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copies of the arrays of a whole run's state, which is one of this run's.

        Raises:
            ValueError: it is none; names the entry.
        """
        obs = self.collector.obs.dtype.name
        layout = Layout(self.config, self.collector.spec, obs, self.agent.get_state())
        return check_training_state(state, layout)

    def _load_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        # Environments first: they are the ones that may fail.
        lost = self.collector.set_state(part_of(state, "environment"))
        self.agent.set_state(agent_state(state))
        self.return_scaler.set_state(part_of(state, "return_scaler"))
        if self.costs is not None:
            self.costs.set_state(part_of(state, "costs"))
        self.update_count, self.episode_count, recent, successes = (
            training_state.counters_from_state(state)
        )
        for kept, saved in ((self.recent, recent), (self.successes, successes)):
            kept.clear()
            kept.extend(saved)
        return rank_training.every_rank(lost, self.share.start, self.ranks)

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
