"""Counter-based random arrays: the only source of randomness of a run.

Each draw is a function of (seed, purpose, index, counter) alone, so a run can be
resumed from four integers, and two backends given the same arrays can be compared.
The generator is Philox-4x64 (Salmon et al. 2011, "Parallel Random Numbers: As Easy
as 1, 2, 3"), keyed by seed and purpose; index and counter fill the two high words of
its 256-bit counter, which leaves 2**128 draws to each stream.
"""

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """Purpose of a stream; different purposes never share a draw."""

    POLICY_WEIGHTS = 1
    CRITIC_WEIGHTS = 2
    ACTION = 3
    MINIBATCH = 4
    TRAINING_RESET = 5
    EVALUATION_RESET = 6
    PROBE = 7
    DEVICE = 8
    COST_CRITIC_WEIGHTS = 9


class RandomStream:
    """All draws of one seed and purpose, addressed by index and counter."""

    def __init__(self, seed: int, purpose: Purpose) -> None:
        self.key: np.ndarray = np.array([seed, purpose], dtype=np.uint64)
        self._philox = np.random.Philox(key=self.key)
        self._generator = np.random.Generator(self._philox)
        self._fresh = self._philox.state

    def at(self, counter: int, index: int = 0) -> np.random.Generator:
        """The generator at the start of draw (`index`, `counter`).

        The same object is returned by every call: use it up before the next one.
        """
        # Setting the state costs a third of constructing a generator, and `act` does
        # so at each environment step.
        self._fresh["state"]["counter"] = np.array(
            [0, 0, index, counter], dtype=np.uint64
        )
        self._philox.state = self._fresh
        return self._generator


def minibatch_orders(
    generator: np.random.Generator, *, epochs: int, size: int
) -> np.ndarray:
    """Orders in which the critic's epochs visit the batch: [epochs, size], int32."""
    orders = np.empty((epochs, size), dtype=np.int32)
    orders[:] = np.arange(size, dtype=np.int32)
    return generator.permuted(orders, axis=1, out=orders)


def episode_seed(stream: RandomStream, *, env_index: int, episode: int) -> int:
    """Seed of environment `env_index`'s reset for its `episode`-th episode, 31 bits."""
    return int(stream.at(episode, env_index).integers(2**31))


def device_key(seed: int, index: int = 0, size: tuple[int, ...] = ()) -> np.ndarray:
    """Random words [*size, 2], uint32, that a device's own generator starts from.

    Compiled training draws on the device, as arrays made here would take longer to
    get there than all that is computed from them.
    """
    generator = RandomStream(seed, Purpose.DEVICE).at(0, index)
    return generator.integers(2**32, size=(*size, 2), dtype=np.uint32)
