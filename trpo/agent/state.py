"""State of an agent under canonical names: snapshots, saving, checks of a state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from trpo.agent.backend import Backend
from trpo.agent.batch_checks import LARGEST
from trpo.common.random_streams import Purpose, RandomStream, minibatch_orders
from trpo.common.validation import LARGEST_COUNT, shown
from trpo.data.normalization import MOMENTS, ObservationNormalizer


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
            f"called {missing[0]!r}.{_of_own_network(missing[0])}"
        )
    if unknown := sorted(set(state) - set(entries), key=str):
        raise ValueError(
            f"`state`: expected the names of this agent's `get_state` alone, got "
            f"{shown(unknown[0])} too."
        )
    return {name: check_entry(state, name, entries[name]) for name in entries}


def _of_own_network(name: str) -> str:
    """What to do where the name of a parameter in the user's network is missing."""
    if ".network." not in name:
        return ""
    return (
        " A network of your own takes the weights of one whose modules have the same "
        "names; of the other framework, Linear, Conv, LayerNorm and Embedding alone."
    )


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


class AgentState:
    """All of an agent that changes: weights, optimiser, random streams, normaliser.

    Args:
        backend: It holds the weights and the optimiser.
        seed: Of the random streams.
        observation_normalizer: None if observations are taken as they are.
    """

    action_draws: int
    backend: Backend
    minibatch_draws: int
    observation_normalizer: ObservationNormalizer | None

    def __init__(
        self,
        backend: Backend,
        seed: int,
        observation_normalizer: ObservationNormalizer | None,
    ) -> None:
        self.backend, self.observation_normalizer = backend, observation_normalizer
        self.action_draws = self.minibatch_draws = 0
        self._set_seed(seed)

    def draw_noise(self, environments: int) -> np.ndarray:
        """The next noise, from which actions of so many environments are sampled."""
        generator = self._action_stream.at(self.action_draws)
        self.action_draws += 1
        return self.backend.head.draw_noise(generator, environments)

    def minibatch_orders(self, epochs: int, size: int) -> np.ndarray:
        """[epochs, size] orders of the next update's samples."""
        generator = self._minibatch_stream.at(self.minibatch_draws)
        return minibatch_orders(generator, epochs=epochs, size=size)

    def snapshot(self, before: Snapshot | None = None) -> Snapshot:
        """The state as it is now, to come back to if what follows fails.

        Cheaper than `get_arrays`: nothing leaves the device, and the normaliser's
        arrays are never written to.

        Args:
            before: One since which no weight has changed: its copies are as good.
        """
        normalizer = self.observation_normalizer
        moments = None if normalizer is None else normalizer.moments.snapshot()
        draws = self.action_draws, self.minibatch_draws
        learned = self.backend.learned() if before is None else before.learned
        return Snapshot(learned, moments, *draws, self.seed)

    def restore(self, snapshot: Snapshot) -> None:
        """Make every byte of the state what it was when `snapshot` was taken."""
        self.backend.restore(snapshot.learned)
        if self.observation_normalizer is not None and snapshot.moments is not None:
            self.observation_normalizer.moments.restore(snapshot.moments)
        self.action_draws = snapshot.action_draws
        self.minibatch_draws = snapshot.minibatch_draws
        if self.seed != snapshot.seed:
            self._set_seed(snapshot.seed)

    @contextmanager
    def all_or_nothing(self, before: Snapshot | None = None) -> Iterator[Snapshot]:
        """Undo what the body has changed if it raises, or is interrupted.

        Args:
            before: See `snapshot`.
        """
        before = self.snapshot(before)
        try:
            yield before
        except BaseException:
            self.restore(before)
            raise

    def arrays(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Copies of a snapshot's state under canonical names."""
        arrays = self.backend.arrays_of(snapshot.learned)
        if snapshot.moments is not None:
            for name, value in zip(MOMENTS, snapshot.moments, strict=True):
                arrays[f"observation_normalizer.{name}"] = np.array(value)
        for name in ("seed", "action_draws", "minibatch_draws"):
            number = np.array(getattr(snapshot, name), dtype=np.int64)
            arrays[f"random.{name}"] = number
        return arrays

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from arrays under canonical names.

        Raises:
            ValueError: a name, shape, dtype or value is wrong; it is named, and
                nothing has changed.
        """
        require_mapping(arrays)
        entries = agent_entries(self.arrays(self.snapshot()))
        checked = check_state(self.backend.canonical(arrays), entries)
        prefix = "observation_normalizer."
        if self.observation_normalizer is not None:
            require_moments(checked, prefix)
        with self.all_or_nothing():
            self.backend.load(checked)
            if self.observation_normalizer is not None:
                moments = {name: checked[prefix + name] for name in MOMENTS}
                self.observation_normalizer.moments.set_state(moments)
            self._set_seed(int(checked["random.seed"]))
            self.action_draws = int(checked["random.action_draws"])
            self.minibatch_draws = int(checked["random.minibatch_draws"])

    def _set_seed(self, seed: int) -> None:
        self.seed = seed
        self._action_stream = RandomStream(seed, Purpose.ACTION)
        self._minibatch_stream = RandomStream(seed, Purpose.MINIBATCH)
