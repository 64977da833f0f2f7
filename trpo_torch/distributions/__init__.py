"""Distributions over actions: NamedTuples of parameters, with what is computed of them.

Nothing outside this folder knows which one it has. To add one, write its file in either
backend and its row of `trpo.spaces.action_heads.FAMILIES`.
"""

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trpo.spaces.action_heads import FAMILIES, Head


@runtime_checkable
class Distribution(Protocol):
    """Parameters of a distribution over actions at n observations, each [n or 1, …].

    One of choices has `masked(head, mask)` too: what it is without the options that
    have a 0 in `mask` [n, options].
    """

    @classmethod
    def from_network(
        cls,
        head: Head,
        outputs: Float[Tensor, "n outputs"],
        log_std: Float[Tensor, " act_dim"] | None,
    ) -> "Distribution":
        """What a policy's outputs, and its free log_std if it has one, stand for."""
        ...

    @classmethod
    def jacobian(
        cls,
        head: Head,
        outputs: Float[Tensor, "n outputs"],
        log_std: Float[Tensor, " act_dim"] | None,
    ) -> tuple[Callable, Callable]:
        """Tangents of `from_network`: (d_outputs, d_log_std) -> tangent; transpose."""
        ...

    def log_prob(self, actions: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n 1"]:
        """Log-density or log-probability of `actions`, nats."""
        ...

    def log_ratio(
        self, new: "Distribution", actions: Float[Tensor, "n act_dim"]
    ) -> Float[Tensor, "n 1"]:
        """log(new / own density) of `actions`, exact for tiny differences."""
        ...

    def entropy(self) -> Float[Tensor, "m 1"]:
        """Entropy, nats; one row where it is the same for all."""
        ...

    def kl(self, new: "Distribution") -> Float[Tensor, "n 1"]:
        """KL(self || new), nats, accurate relative to itself however small."""
        ...

    def sample(self, noise: Float[Tensor, "n act_dim"]) -> Float[Tensor, "n act_dim"]:
        """Actions from `noise` of `trpo.spaces.action_heads.Head.draw_noise`."""
        ...

    def mode(self) -> Float[Tensor, "n act_dim"]:
        """The most likely actions."""
        ...

    def fisher_metric(self, tangent: "Distribution") -> "Distribution":
        """The mean Fisher matrix over rows, in the parameters, times a tangent."""
        ...

    def __iter__(self) -> Iterator[Tensor]:
        """The parameters."""
        ...

    @classmethod
    def _make(cls, parameters: Iterable[Tensor]) -> "Distribution": ...


BY_NAME: dict[str, Any] = {
    name: pkgutil.resolve_name(f"{__name__}.{family.distribution}")
    for name, family in FAMILIES.items()
}


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
    made = BY_NAME[head.distribution].from_network(head, outputs, log_std)
    return made if mask is None else made.masked(head, mask)


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
    push, pull = BY_NAME[head.distribution].jacobian(head, outputs, log_std)
    if mask is None:
        return push, pull

    def push_masked(d_outputs: Tensor, d_log_std: Tensor | None) -> Any:
        return push(d_outputs, d_log_std).masked_tangent(head, mask)

    def pull_masked(u: Any) -> tuple[Tensor, Tensor | None]:
        return pull(u.masked_tangent(head, mask))

    return push_masked, pull_masked
