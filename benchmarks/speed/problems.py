"""The sizes that are timed, and the arrays that every contestant is given."""

import itertools
from typing import NamedTuple

import numpy as np

from trpo.spaces.action_heads import Head
from trpo.spaces.initialization import initial_weights


class Size(NamedTuple):
    """Sizes of one measured update.

    Attributes:
        name: environment whose observation and action sizes these are.
        samples: N, samples in the batch.
        obs_dim: entries of an observation.
        act_dim: entries of an action.
        layers: hidden units of policy and critic.
    """

    name: str
    samples: int
    obs_dim: int
    act_dim: int
    layers: tuple[int, ...]

    @property
    def policy_widths(self) -> tuple[int, ...]:
        """Units of the policy's layers, observations and outputs included."""
        return (self.obs_dim, *self.layers, self.act_dim)

    @property
    def label(self) -> str:
        """How tables call it, such as "HalfCheetah 2,048 x 64-64"."""
        return f"{self.name} {self.samples:,} x {'-'.join(map(str, self.layers))}"


class Problem(NamedTuple):
    """Weights and batch of one update, float32; all start from the same arrays.

    Attributes:
        weights: canonical names -> initial weights.
        obs: [N, obs_dim].
        actions: [N, act_dim], sampled from the policy of `weights`.
        log_probs: [N, 1] theirs, nats.
        returns: [N, 1].
        advantages: [N, 1], mean 0 and standard deviation 1.
    """

    weights: dict[str, np.ndarray]
    obs: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    returns: np.ndarray
    advantages: np.ndarray

    @property
    def batch(self) -> dict[str, np.ndarray]:
        """The fields that an agent's `update` takes."""
        return {name: getattr(self, name) for name in self._fields[1:]}


ENVIRONMENTS = {"Pendulum": (3, 1), "HalfCheetah": (17, 6), "Humanoid": (348, 17)}
"""Observation and action sizes of the Gymnasium environments of these names."""


def size(name: str, samples: int, *layers: int) -> Size:
    """A size of environment `name`."""
    return Size(name, samples, *ENVIRONMENTS[name], layers)


SMALL_GRID = (
    size("HalfCheetah", 2_048, 64, 64),
    size("HalfCheetah", 2_048, 256, 256),
    size("HalfCheetah", 8_192, 256, 256),
    size("HalfCheetah", 32_768, 64, 64),
)
FULL_GRID = tuple(
    size(name, samples, *layers)
    for samples, layers, name in itertools.product(
        (2_048, 8_192, 32_768, 131_072), ((64, 64), (256, 256), (400, 300)),
        ENVIRONMENTS,
    )
)  # fmt: skip
# To see that everything runs, not how fast.
TINY_GRID = tuple(
    size("HalfCheetah", samples, units, units)
    for samples, units in ((512, 16), (512, 32), (1_024, 32), (2_048, 16))
)
GRIDS = {
    "small": SMALL_GRID, "full": FULL_GRID, "tiny": TINY_GRID, "one": TINY_GRID[:1],
}  # fmt: skip


def make_problem(of: Size, seed: int = 0) -> Problem:
    """Standard normal observations, the initial policy's actions, and noisy targets.

    The advantages depend on the actions, as they do in training, so that the gradient
    is more than sampling noise.
    """
    generator = np.random.default_rng([seed, of.samples, of.obs_dim])
    weights = initial_weights(
        obs_dim=of.obs_dim,
        head=Head(of.act_dim),
        policy_layer_sizes=of.layers,
        critic_layer_sizes=of.layers,
        initial_log_std=0.0,
        seed=seed,
    )
    obs = generator.standard_normal((of.samples, of.obs_dim))
    noise = generator.standard_normal((of.samples, of.act_dim))
    target = np.tanh(obs @ generator.standard_normal((of.obs_dim, of.act_dim)))
    advantages = (noise * target).sum(1, keepdims=True)
    advantages += generator.standard_normal((of.samples, 1))
    arrays = (
        obs,
        policy_mean(weights, obs) + noise,
        -0.5 * (noise**2 + np.log(2 * np.pi)).sum(1, keepdims=True),
        generator.standard_normal((of.samples, 1)),
        (advantages - advantages.mean()) / advantages.std(),
    )
    return Problem(
        {name: array.astype(np.float32) for name, array in weights.items()},
        *(array.astype(np.float32) for array in arrays),
    )


def policy_mean(weights: dict[str, np.ndarray], obs: np.ndarray) -> np.ndarray:
    """Mean [N, act_dim] of the policy of canonical `weights`."""
    x, last = obs, len(layer_names(weights, "policy.")) - 1
    for i, name in enumerate(layer_names(weights, "policy.")):
        x = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        x = x if i == last else np.tanh(x)
    return x


def layer_names(weights: dict[str, np.ndarray], prefix: str) -> list[str]:
    """Canonical names of a network's layers, from input to output."""
    count = sum(
        name.startswith(f"{prefix}layers.") and name.endswith("weight")
        for name in weights
    )
    return [f"{prefix}layers.{i}" for i in range(count)]


def flat(state: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """A network's arrays as one float64 vector, by canonical name."""
    names = sorted(name for name in state if name.startswith(prefix))
    return np.concatenate([state[name].ravel() for name in names]).astype(np.float64)
