"""The state of an agent under canonical names: what of it knows no framework."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from trpo.agent.batch_checks import real_array, require_finite, require_shape
from trpo.agent.checks import AgentChecks
from trpo.agent.sharding import Sharding, require_shardable
from trpo.agent.state_checks import agent_entries, check_state, require_moments
from trpo.common.random_streams import Purpose, RandomStream
from trpo.data.normalization import MOMENTS
from trpo.ranks import ALONE, Alone


class Snapshot(NamedTuple):
    """What an agent's `restore` brings back; kept in memory, in the backend's arrays.

    Attributes:
        learned: weights and optimiser.
        moments: count, mean and squared deviations of the normaliser, if it is on.
        action_draws: actions drawn.
        minibatch_draws: orders of minibatches drawn.
        seed: of the random streams.
    """

    learned: Any
    moments: tuple[float, np.ndarray, np.ndarray] | None
    action_draws: int
    minibatch_draws: int
    seed: int


class AgentState(AgentChecks):
    """The part of an agent that is saved; `trpo.agent.base.AgentBase` has the rest."""

    seed: int
    _action_stream: RandomStream
    _minibatch_stream: RandomStream
    _action_draws: int
    _minibatch_draws: int
    sharding: Sharding | None = None
    """How updates are divided over devices and processes; None if they are not."""

    def _draw_noise(self, rows: int) -> np.ndarray:
        """What `rows` actions are sampled from, each time another."""
        generator = self._action_stream.at(self._action_draws)
        self._action_draws += 1
        if self.sharding is None or self.sharding.environments is None:
            return self.head.draw_noise(generator, rows)
        # Every environment's, so that each has what it has in a run of one process.
        count, own = self.sharding.environments
        return self.head.draw_noise(generator, count)[own]

    def shard(
        self,
        ranks: Alone = ALONE,
        num_envs: int | None = None,
        devices: Sequence[Any] = (),
    ) -> None:
        """Divide updates over devices and processes from here on.

        Every rank must then call `update` and `observe`, each with its own part.

        Args:
            ranks: This process and the others, which `start` of the backend's
                `distributed` has made.
            num_envs: Environments of all ranks, if this one acts in its own of them.
            devices: JAX's, of this process; by default all of the agent's kind where
                there are other processes, else the agent's own.

        Raises:
            ValueError: the backend can't use these devices, a rank would have no
                environment, or the configuration asks for what is not sharded yet.
        """
        require_shardable(self.config)
        self.sharding = Sharding(ranks, self._use_devices(ranks, devices), num_envs)

    def snapshot(self) -> Snapshot:
        """The state as it is now, to come back to if what follows fails.

        Cheaper than `get_state`: nothing leaves the device, and the normaliser's
        arrays are never written to.
        """
        return self._snapshot_with(self._learned())

    def _snapshot_with(self, learned: Any) -> Snapshot:
        moments = None
        if self.observation_normalizer is not None:
            own = self.observation_normalizer.moments
            moments = (own.count, own.mean, own.squared_deviations)
        draws = self._action_draws, self._minibatch_draws
        return Snapshot(learned, moments, *draws, self.seed)

    def restore(self, snapshot: Snapshot) -> None:
        """Make every byte of the state what it was when `snapshot` was taken."""
        self._restore_learned(snapshot.learned)
        if self.observation_normalizer is not None and snapshot.moments is not None:
            own = self.observation_normalizer.moments
            own.count, own.mean, own.squared_deviations = snapshot.moments
        self._action_draws = snapshot.action_draws
        self._minibatch_draws = snapshot.minibatch_draws
        if self.seed != snapshot.seed:
            self._set_seed(snapshot.seed)

    @contextmanager
    def all_or_nothing(self) -> Iterator[Snapshot]:
        """Undo what the body has changed if it raises, or is interrupted."""
        before = self.snapshot()
        try:
            yield before
        except BaseException:
            self.restore(before)
            raise

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of all that the next `act` or `update` depends on, by canonical name.

        The names are the same in both backends, so that either continues the other:
        `policy.layers.<i>.weight` [out, in], `policy.log_std` [act_dim],
        `policy.norms.<i>.weight` [units] where layers are normalised,
        `value.layers.<i>.bias`, `value_optimizer.…`, `observation_normalizer.…`,
        `random.…`.
        """
        return self._named(self._get_learned_state(), self._snapshot_with(None))

    def state_at(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """What `get_state` was when `snapshot` was taken, whatever has come since."""
        return self._named(self._arrays_of(snapshot.learned), snapshot)

    def _named(
        self, state: dict[str, np.ndarray], snapshot: Snapshot
    ) -> dict[str, np.ndarray]:
        if snapshot.moments is not None:
            for name, value in zip(MOMENTS, snapshot.moments, strict=True):
                state[f"observation_normalizer.{name}"] = np.array(value)
        for name, value in (
            ("seed", snapshot.seed),
            ("action_draws", snapshot.action_draws),
            ("minibatch_draws", snapshot.minibatch_draws),
        ):
            state[f"random.{name}"] = np.array(value, dtype=np.int64)
        return state

    def digest(self) -> np.ndarray:
        """SHA-256 [32] of every byte of weights and optimiser; equal on all ranks."""
        found = hashlib.sha256()
        for name, array in self._get_learned_state().items():
            found.update(name.encode() + array.tobytes())
        return np.frombuffer(found.digest(), dtype=np.uint8)

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state`, as `get_state` of either backend returned it.

        Raises:
            ValueError: a name, shape, dtype or value is wrong; it is named, and
                nothing has changed.
        """
        checked = check_state(state, agent_entries(self.get_state()))
        prefix = "observation_normalizer."
        if self.observation_normalizer is not None:
            require_moments(checked, prefix)
        with self.all_or_nothing():
            self._set_learned_state(checked)
            if self.observation_normalizer is not None:
                moments = {name: checked[prefix + name] for name in MOMENTS}
                self.observation_normalizer.moments.set_state(moments)
            self._set_seed(int(checked["random.seed"]))
            self._action_draws = int(checked["random.action_draws"])
            self._minibatch_draws = int(checked["random.minibatch_draws"])

    def _set_seed(self, seed: int) -> None:
        self.seed = seed
        self._action_stream = RandomStream(seed, Purpose.ACTION)
        self._minibatch_stream = RandomStream(seed, Purpose.MINIBATCH)

    def observe(self, obs: np.ndarray) -> None:
        """Add raw observations [N, obs_dim] to the running normalisation, if on.

        Raises:
            ValueError: `obs` has another shape, is not finite, or is so large that
                squares of it overflow; nothing has changed.
        """
        if self.observation_normalizer is not None:
            obs = real_array("obs", obs)
            require_shape("obs", obs, (None, self.obs_dim))
            require_finite("obs", obs, self.largest_observation)
            ranks = ALONE if self.sharding is None else self.sharding.ranks
            self.observation_normalizer.update(obs, ranks)
