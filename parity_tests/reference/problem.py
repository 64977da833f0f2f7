"""A case of the grid, and the problem that is drawn from it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays
from parity_tests.reference.networks import Network
from trpo.config.run import TRPOConfig
from trpo.spaces.action_heads import (
    CATEGORICAL,
    GAUSSIAN,
    Head,
)
from trpo.spaces.architecture import Architecture, Image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the grid.

    Attributes:
        name: name in reports.
        why: property of the problem that the case tests.
        batch: number of samples.
        obs_dim: entries of an observation.
        act_dim: entries of an action.
        layers: sizes of the hidden layers of policy and critic; () is a linear policy,
            which the configuration refuses, so its networks are put in place by hand.
        distribution: of actions, a name in `trpo.spaces.action_heads.FAMILIES`.
        action_sizes: options of each choice, where actions are choices.
        masked: whether half of all options can't be taken, at random.
        regime: "fresh", "trained", "saturated", "dead_units", "constant_obs",
            "log_std_low", "log_std_high" or "peaked" (probabilities near 0 and 1).
        advantage_scale: factor of the advantages.
        staleness: standard deviation of the noise on the old log-probabilities.
        nearby: relative size of the parameter change whose KL is taken.
        config: fields of `TRPOConfig` that differ from the grid's defaults.
        updates: whether a step can be compared; not where cond(F) exceeds 1/u.
        quick: whether it belongs to the quick selection.
        images: parts of an observation that are pixels, 0 to 255 in the batch.
        tested: whether the tests run it; the full certificate runs all.
    """

    name: str
    why: str
    batch: int = 33
    obs_dim: int = 5
    act_dim: int = 3
    layers: tuple[int, ...] = (7, 4)
    distribution: str = GAUSSIAN
    action_sizes: tuple[int, ...] = ()
    masked: bool = False
    regime: str = "trained"
    advantage_scale: float = 1.0
    staleness: float = 0.1
    nearby: float = 1e-2
    config: tuple[tuple[str, Any], ...] = ()
    updates: bool = True
    quick: bool = False
    images: tuple[Image, ...] = ()
    tested: bool = True

    @property
    def head(self) -> Head:
        """The distribution and its sizes."""
        choices = self.distribution == CATEGORICAL
        act_dim = len(self.action_sizes) if choices else self.act_dim
        return Head(act_dim, self.distribution, self.action_sizes)

    @property
    def architecture(self) -> Architecture:
        """Architecture of both networks, from `config`."""
        names = ("activation", "layer_norm")
        named = {n: v for n, v in self.config if n in names}
        return Architecture(**named, images=self.images)

    @property
    def free_log_std(self) -> int:
        """Entries of the policy's free log_std; 0 where it has none."""
        return self.head.reals * self.head.family.free_log_std

    @property
    def policy_sizes(self) -> tuple[int, ...]:
        """Widths of the policy from input to output."""
        return (self.obs_dim, *self.layers, self.head.output_dim)

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Widths of the critic from input to output."""
        return (self.obs_dim, *self.layers, 1)


class Problem(NamedTuple):
    """One case with its arrays drawn; float64, each number exact in float32.

    Attributes:
        case: the row of the grid.
        seed: seed of everything drawn.
        config: hyperparameters, but for dtype and layer sizes.
        state: canonical weights and optimiser before the update.
        batch: obs, actions, log_probs, returns, advantages, perhaps action_mask.
        orders: [epochs, N] minibatch orders, as an agent of this seed draws them.
        nearby: canonical weights of a policy a small step away.
        probe: [p] a vector for Fisher products.
        rollout: arrays [T, B] of a rollout for GAE, and raw observations.
    """

    case: Case
    seed: int
    config: TRPOConfig
    state: Arrays
    batch: Arrays
    orders: np.ndarray
    nearby: Arrays
    probe: np.ndarray
    rollout: Arrays

    def policy(self, state: Arrays | None = None) -> Network:
        """The policy at the problem's weights, or at others."""
        chosen = self.state if state is None else state
        return Network.policy(chosen, self.case.architecture)

    def critic(self) -> Network:
        """The critic at the problem's weights."""
        return Network.critic(self.state, self.case.architecture)


class ConstrainedProblem(NamedTuple):
    """A problem with costs; every number is exact in float32.

    Attributes:
        base: the problem without costs.
        costs: `cost_advantages`, `cost_returns` [N, 1] and `cost_excess` [].
        critic: canonical weights and optimiser of the cost critic, as a critic's.
    """

    base: Problem
    costs: Arrays
    critic: Arrays

    @property
    def of_costs(self) -> Problem:
        """The problem with costs and the cost critic in place of rewards and critic."""
        batch = self.base.batch | {
            "advantages": self.costs["cost_advantages"],
            "returns": self.costs["cost_returns"],
        }
        return self.base._replace(batch=batch, state=self.base.state | self.critic)
