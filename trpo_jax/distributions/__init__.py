"""Every distribution's functions under one name: the type of what is given decides.

Nothing outside this file and the distributions' own knows which one it has. To add one,
write its file, with the functions below, and a line of `BY_NAME`.
"""

from types import ModuleType

import jax
from jaxtyping import Float

from trpo.spaces.action_heads import (
    BERNOULLI,
    CATEGORICAL,
    GAUSSIAN,
    GAUSSIAN_STATE_STD,
    MIXED,
    MIXED_STATE_STD,
    SQUASHED_GAUSSIAN,
    SQUASHED_GAUSSIAN_STATE_STD,
    Head,
)
from trpo_jax.distributions import (
    bernoulli,
    categorical,
    gaussian,
    mixed,
    squashed_gaussian,
)
from trpo_jax.distributions.bernoulli import Bernoulli
from trpo_jax.distributions.categorical import Categorical
from trpo_jax.distributions.gaussian import DiagonalGaussian
from trpo_jax.distributions.mixed import Mixed
from trpo_jax.distributions.squashed_gaussian import SquashedGaussian


BY_NAME: dict[str, ModuleType] = {
    GAUSSIAN: gaussian,
    GAUSSIAN_STATE_STD: gaussian,
    SQUASHED_GAUSSIAN: squashed_gaussian,
    SQUASHED_GAUSSIAN_STATE_STD: squashed_gaussian,
    CATEGORICAL: categorical,
    BERNOULLI: bernoulli,
    MIXED: mixed,
    MIXED_STATE_STD: mixed,
}
_BY_TYPE = {module.TYPE: module for module in BY_NAME.values()}

Distribution = DiagonalGaussian | SquashedGaussian | Categorical | Bernoulli | Mixed
"""Parameters of a distribution over actions at n observations, each [n or 1, …]."""


def from_network(
    head: Head,
    outputs: Float[jax.Array, "n outputs"],
    log_std: Float[jax.Array, " act_dim"] | None,
    mask: Float[jax.Array, "n options"] | None = None,
) -> Distribution:
    """The distribution that a policy's outputs stand for.

    Args:
        head: Distribution and sizes.
        outputs: Of the network.
        log_std: The policy's free one, if `head` has it.
        mask: 0 where an option can't be taken: it has probability and gradient 0, as
            in Huang and Ontañón 2020, "A Closer Look at Invalid Action Masking in
            Policy Gradient Algorithms". None where nothing is forbidden.
    """
    module = BY_NAME[head.distribution]
    made = module.from_network(head, outputs, log_std)
    return made if mask is None else module.masked(head, made, mask)


def log_prob(
    distribution: Distribution, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """Log-density or log-probability of `actions`, nats."""
    return _BY_TYPE[type(distribution)].log_prob(distribution, actions)


def log_ratio(
    old: Distribution, new: Distribution, actions: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n 1"]:
    """log(new density / old density) of `actions`, exact for tiny differences."""
    return _BY_TYPE[type(old)].log_ratio(old, new, actions)


def entropy(distribution: Distribution) -> Float[jax.Array, "m 1"]:
    """Entropy, nats; one row where it is the same for all."""
    return _BY_TYPE[type(distribution)].entropy(distribution)


def kl_old_to_new(old: Distribution, new: Distribution) -> Float[jax.Array, "n 1"]:
    """KL(old || new), nats, accurate relative to itself however small."""
    return _BY_TYPE[type(old)].kl_old_to_new(old, new)


def sample(
    distribution: Distribution, noise: Float[jax.Array, "n act_dim"]
) -> Float[jax.Array, "n act_dim"]:
    """Actions from `noise`, as `trpo.spaces.action_heads.Head.draw_noise` makes it."""
    return _BY_TYPE[type(distribution)].sample(distribution, noise)


def mode(distribution: Distribution) -> Float[jax.Array, "n act_dim"]:
    """The most likely actions."""
    return _BY_TYPE[type(distribution)].mode(distribution)


def fisher_metric(distribution: Distribution, tangent: Distribution) -> Distribution:
    """The mean Fisher matrix over rows, in the distribution's parameters, times u."""
    return _BY_TYPE[type(distribution)].fisher_metric(distribution, tangent)
