"""Every distribution's functions under one name: the type of what is given decides.

Nothing outside this file and the distributions' own knows which one it has. To add one,
write its file, with the functions below, and a line of `BY_NAME`.
"""

from collections.abc import Callable
from types import ModuleType

from jaxtyping import Float
from torch import Tensor

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
from trpo_torch.distributions import (
    bernoulli,
    categorical,
    gaussian,
    mixed,
    squashed_gaussian,
)
from trpo_torch.distributions.bernoulli import Bernoulli
from trpo_torch.distributions.categorical import Categorical
from trpo_torch.distributions.gaussian import DiagonalGaussian
from trpo_torch.distributions.mixed import Mixed
from trpo_torch.distributions.squashed_gaussian import SquashedGaussian


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
    outputs: Float[Tensor, "n outputs"],
    log_std: Float[Tensor, " act_dim"] | None,
    mask: Float[Tensor, "n options"] | None = None,
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


def jacobian(
    head: Head,
    outputs: Float[Tensor, "n outputs"],
    log_std: Float[Tensor, " act_dim"] | None,
    mask: Float[Tensor, "n options"] | None = None,
) -> tuple[Callable, Callable]:
    """How `from_network` changes with what it is given, and the transpose of that.

    Args:
        head: Distribution and sizes.
        outputs: Of the network, where the derivative is taken.
        log_std: The policy's free one, if `head` has it.
        mask: As in `from_network`.

    Returns:
        Push, (d_outputs, d_log_std) -> tangent of the distribution; and pull,
        cotangent of the distribution -> cotangents (of outputs, of log_std).
    """
    module = BY_NAME[head.distribution]
    push, pull = module.jacobian(head, outputs, log_std)
    if mask is None:
        return push, pull

    def push_masked(d_outputs: Tensor, d_log_std: Tensor | None) -> Distribution:
        return module.masked_tangent(head, push(d_outputs, d_log_std), mask)

    def pull_masked(u: Distribution) -> tuple[Tensor, Tensor | None]:
        return pull(module.masked_tangent(head, u, mask))

    return push_masked, pull_masked


def log_prob(
    distribution: Distribution, actions: Float[Tensor, "n act_dim"]
) -> Float[Tensor, "n 1"]:
    """Log-density or log-probability of `actions`, nats."""
    return _BY_TYPE[type(distribution)].log_prob(distribution, actions)


def log_ratio(
    old: Distribution, new: Distribution, actions: Float[Tensor, "n act_dim"]
) -> Float[Tensor, "n 1"]:
    """log(new density / old density) of `actions`, exact for tiny differences."""
    return _BY_TYPE[type(old)].log_ratio(old, new, actions)


def entropy(distribution: Distribution) -> Float[Tensor, "m 1"]:
    """Entropy, nats; one row where it is the same for all."""
    return _BY_TYPE[type(distribution)].entropy(distribution)


def kl_old_to_new(old: Distribution, new: Distribution) -> Float[Tensor, "n 1"]:
    """KL(old || new), nats, accurate relative to itself however small."""
    return _BY_TYPE[type(old)].kl_old_to_new(old, new)


def sample(
    distribution: Distribution, noise: Float[Tensor, "n act_dim"]
) -> Float[Tensor, "n act_dim"]:
    """Actions from `noise`, as `trpo.spaces.action_heads.Head.draw_noise` makes it."""
    return _BY_TYPE[type(distribution)].sample(distribution, noise)


def mode(distribution: Distribution) -> Float[Tensor, "n act_dim"]:
    """The most likely actions."""
    return _BY_TYPE[type(distribution)].mode(distribution)


def fisher_metric(distribution: Distribution, tangent: Distribution) -> Distribution:
    """The mean Fisher matrix over rows, in the distribution's parameters, times u."""
    return _BY_TYPE[type(distribution)].fisher_metric(distribution, tangent)
