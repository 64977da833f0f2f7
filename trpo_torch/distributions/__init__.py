"""Distributions over actions: NamedTuples of parameters, with what is computed of them.

Nothing outside this folder knows which one it has. To add one, write its file in either
backend and its row of `trpo.spaces.action_heads.FAMILIES`.
"""

import pkgutil
from collections.abc import Iterable, Iterator
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
