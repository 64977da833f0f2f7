"""Running statistics of observations and of discounted returns.

Both are plain NumPy in float64, so that either backend sees the same numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from trpo.distributed.ranks import ALONE, Alone


# Keeps a constant feature's standard deviation away from zero.
VARIANCE_EPSILON = 1e-8
MOMENTS = ("count", "mean", "squared_deviations")
# Numbers that are taken to float64 at a time: one-hot observations are large.
BLOCK = 2**22


def _blocks(count: int, each: int) -> Iterator[slice]:
    """Slices of `count` things that have `each` numbers; of none, there are none."""
    step = max(BLOCK // max(each, 1), 1)
    yield from (slice(i, i + step) for i in range(0, count if each else 0, step))


class RunningMoments:
    """Mean and population variance of all vectors seen so far.

    Batches are merged exactly, in any order, by Chan et al. 1983, "Algorithms for
    computing the sample variance", eq. 2.1.
    """

    count: float
    mean: np.ndarray
    squared_deviations: np.ndarray

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean = np.zeros(size)
        self.squared_deviations = np.zeros(size)

    def update(self, vectors: np.ndarray, ranks: Alone = ALONE) -> None:
        """Add vectors [..., size]; those of all ranks, which must all call it."""
        vectors = np.asarray(vectors).reshape(-1, self.mean.size)
        mean, deviations = np.zeros_like(self.mean), np.zeros_like(self.mean)
        for columns in _blocks(self.mean.size, len(vectors)):
            block = vectors[:, columns].astype(np.float64)
            mean[columns] = block.mean(axis=0)
            deviations[columns] = ((block - mean[columns]) ** 2).sum(axis=0)
        moments = {
            "count": np.array(float(len(vectors))),
            "mean": mean,
            "squared_deviations": deviations,
        }
        for part in ranks.gather(moments):
            if part["count"]:
                self._merge(float(part["count"]), *(part[n] for n in MOMENTS[1:]))

    def _merge(
        self, count: float, mean: np.ndarray, squared_deviations: np.ndarray
    ) -> None:
        total, delta = self.count + count, mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squared_deviations = (
            self.squared_deviations
            + squared_deviations
            + delta**2 * (self.count * count / total)
        )
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """[size] population standard deviation; 1 before anything was seen."""
        if self.count == 0:
            return np.ones_like(self.mean)
        return np.sqrt(self.squared_deviations / self.count + VARIANCE_EPSILON)

    def snapshot(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The state as it is now, for `restore`; its arrays are never written to."""
        return self.count, self.mean, self.squared_deviations

    def restore(self, snapshot: tuple[float, np.ndarray, np.ndarray]) -> None:
        """Make `get_state` what it was."""
        self.count, self.mean, self.squared_deviations = snapshot

    def get_state(self) -> dict[str, np.ndarray]:
        """Count, mean and sum of squared deviations, float64."""
        return {
            "count": np.array(self.count),
            "mean": self.mean.copy(),
            "squared_deviations": self.squared_deviations.copy(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `get_state` returned."""
        self.count = float(state["count"])
        self.mean = np.array(state["mean"], dtype=np.float64)
        self.squared_deviations = np.array(
            state["squared_deviations"], dtype=np.float64
        )


class ObservationNormalizer:
    """(observation - mean) / std, clipped; statistics change only in `update`.

    Args:
        obs_dim: Entries of an observation.
        clip: Bound of normalised entries.
        columns: Entries that are normalised, not pixels; all if None.
    """

    clip: float
    columns: np.ndarray | None
    moments: RunningMoments
    obs_dim: int

    def __init__(
        self, obs_dim: int, clip: float = 10.0, columns: np.ndarray | None = None
    ) -> None:
        self.moments = RunningMoments(obs_dim if columns is None else len(columns))
        self.obs_dim, self.clip, self.columns = obs_dim, clip, columns

    def update(self, obs: np.ndarray, ranks: Alone = ALONE) -> None:
        """Add raw observations [..., obs_dim]; those of all ranks."""
        columns = obs if self.columns is None else obs[..., self.columns]
        self.moments.update(columns, ranks)

    def normalize(self, obs: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Normalised copy of raw `obs` [..., obs_dim], as `dtype`."""
        if self.columns is not None:
            whole = obs.astype(dtype)
            whole[..., self.columns] = self._in_blocks(obs[..., self.columns], dtype)
            return whole
        return self._in_blocks(obs, dtype)

    def _in_blocks(self, obs: np.ndarray, dtype: np.dtype) -> np.ndarray:
        scaling = self.scaling(dtype)
        if obs.size <= BLOCK:
            return scaling(obs)
        rows = obs.reshape(-1, obs.shape[-1])
        scaled = np.empty(rows.shape, dtype)
        for block in _blocks(len(rows), rows.shape[1]):
            scaled[block] = scaling(rows[block])
        return scaled.reshape(obs.shape)

    def as_vectors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation and bound, [obs_dim] each; 0, 1, infinity if not."""
        columns = slice(None) if self.columns is None else self.columns
        vectors = (
            np.zeros(self.obs_dim), np.ones(self.obs_dim), np.full(self.obs_dim, np.inf)
        )  # fmt: skip
        numbers = (self.moments.mean, self.moments.std, self.clip)
        for vector, values in zip(vectors, numbers, strict=True):
            vector[columns] = values
        return vectors

    def scaling(self, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
        """What is done to normalised columns, by the statistics as they are now."""
        mean, std, bound = self.moments.mean, self.moments.std, self.clip

        def scaled(obs: np.ndarray) -> np.ndarray:
            x = obs - mean
            x /= std
            # As np.clip, faster on few numbers.
            np.minimum(np.maximum(x, -bound, out=x), bound, out=x)
            return x.astype(dtype, copy=False)

        return scaled


class ReturnScaler:
    """Divides rewards by the running standard deviation of the discounted return.

    The mean is not subtracted: that would change what an episode's end is worth.
    """

    discounted: np.ndarray
    moments: RunningMoments

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.moments = RunningMoments(1)
        self.gamma = gamma
        self.discounted = np.zeros(num_envs)

    def update(
        self,
        rewards: np.ndarray,
        done: np.ndarray,
        valid: np.ndarray,
        ranks: Alone = ALONE,
    ) -> None:
        """Add a rollout: raw `rewards`, `done` and `valid` flags, each [T, B].

        The moments are of all ranks' rollouts.
        """
        returns = np.empty(rewards.shape)
        for t, reward in enumerate(rewards):
            self.discounted = self.gamma * self.discounted + reward
            returns[t] = self.discounted
            self.discounted = np.where(done[t] | ~valid[t], 0.0, self.discounted)
        self.moments.update(returns[valid][:, None], ranks)

    @property
    def scale(self) -> float:
        """Divisor of rewards: the standard deviation of the discounted return."""
        return float(self.moments.std[0])

    def snapshot(self) -> tuple[Any, ...]:
        """The state as it is now, for `restore`; its arrays are never written to."""
        return self.moments.snapshot(), self.discounted

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Make `get_state` what it was."""
        moments, self.discounted = snapshot
        self.moments.restore(moments)

    def get_state(self) -> dict[str, np.ndarray]:
        """Moments and the discounted return of each environment's open episode."""
        return {**self.moments.get_state(), "discounted": self.discounted.copy()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `get_state` returned."""
        self.moments.set_state(state)
        self.discounted = np.array(state["discounted"], dtype=np.float64)
