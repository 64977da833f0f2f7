"""State of an agent under canonical names: snapshots, saving, checks of a state."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from trpo.agent.backend import BackendHooks
from trpo.agent.batch_checks import LARGEST
from trpo.agent.sharding import Sharding
from trpo.common.random_streams import Purpose, RandomStream
from trpo.common.validation import LARGEST_COUNT, shown
from trpo.config.run import TRPOConfig
from trpo.config.support import DIVIDED_BY_JAX, DIVIDED_BY_TORCH, require_supported
from trpo.data.normalization import MOMENTS, ObservationNormalizer
from trpo.ranks import ALONE, Alone
from trpo.spaces.action_heads import Head


# Draws that leave a run as many again; whole numbers that a float64 can count to.
MOST_DRAWS, MOST_VECTORS = 2**62, 2**53
_NEVER_NEGATIVE = (
    "value_optimizer.second_moment.",
    "cost_value_optimizer.second_moment.",
)


class Entry(NamedTuple):
    """The dtype, shape and range that an array of a state has to have; finite, too.

    Attributes:
        dtype: its name.
        shape: its shape.
        low: the lowest that a number may be, or an array that broadcasts; None for any.
        high: the highest, likewise.
        whole: whether they are whole numbers, of whatever dtype; may be an array too.
    """

    dtype: str
    shape: tuple[int, ...]
    low: Any = None
    high: Any = None
    whole: Any = False


def entry_like(array: np.ndarray) -> Entry:
    """An entry of any finite values, with dtype and shape of this array."""
    return Entry(array.dtype.name, array.shape)


def count_entry(high: int, low: int = 0) -> Entry:
    """The entry of a counter."""
    return Entry("int64", (), low, high)


def moments_entries(
    size: int, largest: float, most: int = MOST_VECTORS
) -> dict[str, Entry]:
    """Entries of `trpo.data.normalization.RunningMoments`, by name.

    Args:
        size: Of its vectors.
        largest: Absolute value of what entered them.
        most: How many vectors there can be.
    """
    return {
        "count": Entry("float64", (), 0, most, whole=True),
        "mean": Entry("float64", (size,), -largest, largest),
        "squared_deviations": Entry("float64", (size,), 0, 4.0 * most * largest**2),
    }


def require_moments(state: Mapping[str, np.ndarray], prefix: str) -> None:
    """Raise ValueError if moments of nothing are not 0."""
    for name in ("mean", "squared_deviations"):
        if not state[f"{prefix}count"] and state[f"{prefix}{name}"].any():
            raise ValueError(
                f"`state[{prefix + name!r}]`: expected 0, as {prefix + 'count'!r} is."
            )


def agent_entries(template: Mapping[str, np.ndarray]) -> dict[str, Entry]:
    """Entries of an agent's state, by name.

    Args:
        template: A state of an agent of the same configuration.
    """
    entries = {name: entry_like(array) for name, array in template.items()}
    for name, entry in entries.items():
        if name.startswith("random."):
            high = 2**63 - 1 if name.endswith("seed") else MOST_DRAWS
            entries[name] = entry._replace(low=0, high=high)
        elif name.endswith("value_optimizer.step"):
            # A 32-bit number in JAX, which ends there.
            entries[name] = entry._replace(low=0, high=LARGEST_COUNT)
        elif name.startswith(_NEVER_NEGATIVE):
            entries[name] = entry._replace(low=0)
    prefix = "observation_normalizer."
    if prefix + "mean" in entries:
        moments = moments_entries(template[prefix + "mean"].size, LARGEST["float64"])
        entries |= {prefix + name: entry for name, entry in moments.items()}
    return entries


def check_state(
    state: Mapping[str, np.ndarray], entries: Mapping[str, Entry]
) -> dict[str, np.ndarray]:
    """Copies of `state`'s arrays, which are what `entries` say.

    Raises:
        ValueError: a name is missing or unknown, or an array is not what it has to be;
            the message names it.
    """
    require_mapping(state)
    if missing := sorted(set(entries) - set(state)):
        raise ValueError(
            f"`state`: expected every name of this agent's `get_state`, got none "
            f"called {missing[0]!r}."
        )
    if unknown := sorted(set(state) - set(entries), key=str):
        raise ValueError(
            f"`state`: expected the names of this agent's `get_state` alone, got "
            f"{shown(unknown[0])} too."
        )
    return {name: check_entry(state, name, entries[name]) for name in entries}


def require_mapping(state: object) -> None:
    """Raise ValueError unless `state` is a mapping."""
    if not isinstance(state, Mapping):
        raise ValueError(
            f"`state`: expected arrays by their names, got {shown(state)}."
        )


def check_entry(state: Mapping[str, np.ndarray], name: str, entry: Entry) -> np.ndarray:
    """A copy of the array that is called so.

    Raises:
        ValueError: it is missing, or not what `entry` says.
    """
    if name not in state:
        raise ValueError(f"`state`: expected {name!r}, got no such name.")
    try:
        array = np.array(state[name])
    except ValueError as error:
        raise ValueError(
            f"`state[{name!r}]`: expected an array, got {error}."
        ) from None
    # By name: the order of bytes in memory is not part of a state.
    if array.shape != entry.shape or array.dtype.name != entry.dtype:
        raise ValueError(
            f"`state[{name!r}]`: expected {entry.dtype} {list(entry.shape)}, "
            f"got {array.dtype} {list(array.shape)}."
        )
    bad, expected = ~np.isfinite(array), "finite numbers"
    if not bad.any() and entry.low is not None:
        # Not Python's numbers, which would become ones of the array's dtype.
        bad = array < np.asarray(entry.low)
        expected = f"{shown(entry.low)} at least"
    if not bad.any() and entry.high is not None:
        bad, expected = array > np.asarray(entry.high), f"{shown(entry.high)} at most"
    if not bad.any() and np.any(entry.whole):
        bad, expected = (array != np.floor(array)) & entry.whole, "whole numbers"
    if bad.any():
        got = array[tuple(np.argwhere(bad)[0])]
        raise ValueError(f"`state[{name!r}]`: expected {expected}, got {got}.")
    return array


class Snapshot(NamedTuple):
    """An agent's state in memory, in the backend's arrays; `restore` brings it back.

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


class AgentState(BackendHooks):
    """The part of an agent that is saved; `trpo.agent.base.AgentBase` has the rest."""

    config: TRPOConfig
    head: Head
    observation_normalizer: ObservationNormalizer | None
    seed: int
    _action_stream: RandomStream
    _minibatch_stream: RandomStream
    _action_draws: int
    _minibatch_draws: int
    sharding: Sharding | None = None
    """How updates are divided over devices and processes; None if they are not."""

    def _draw_noise(self, rows: int) -> np.ndarray:
        """The next noise, from which `rows` actions are sampled."""
        generator = self._action_stream.at(self._action_draws)
        self._action_draws += 1
        if self.sharding is None or self.sharding.environments is None:
            return self.head.draw_noise(generator, rows)
        # Every environment's, so that each has what it has in a run of one process.
        count, share = self.sharding.environments
        return self.head.draw_noise(generator, count)[share]

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
        by_torch = self.framework == "torch"
        if by_torch or ranks.size > 1:
            kind = DIVIDED_BY_TORCH if by_torch else DIVIDED_BY_JAX
            require_supported(kind, self.config)
        self._use_devices(ranks, devices)
        self.sharding = Sharding(ranks, num_envs)

    def snapshot(self) -> Snapshot:
        """The state as it is now, to come back to if what follows fails.

        Cheaper than `get_state`: nothing leaves the device, and the normaliser's
        arrays are never written to.
        """
        return self._snapshot_with(self._learned())

    def _snapshot_with(self, learned: Any) -> Snapshot:
        moments = None
        if self.observation_normalizer is not None:
            running = self.observation_normalizer.moments
            moments = (running.count, running.mean, running.squared_deviations)
        draws = self._action_draws, self._minibatch_draws
        return Snapshot(learned, moments, *draws, self.seed)

    def restore(self, snapshot: Snapshot) -> None:
        """Make every byte of the state what it was when `snapshot` was taken."""
        self._restore_learned(snapshot.learned)
        if self.observation_normalizer is not None and snapshot.moments is not None:
            running = self.observation_normalizer.moments
            running.count, running.mean, running.squared_deviations = snapshot.moments
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
        """The state, as `get_state` returns it, at the time of `snapshot`."""
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
        digest = hashlib.sha256()
        for name, array in self._get_learned_state().items():
            digest.update(name.encode() + array.tobytes())
        return np.frombuffer(digest.digest(), dtype=np.uint8)

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
