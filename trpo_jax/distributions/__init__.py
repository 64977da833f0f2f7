"""Distributions over actions: NamedTuples of parameters, with what is computed of them.

Nothing outside this folder knows which one it has. To add one, write its file in either
backend and its row of `trpo.spaces.action_heads.FAMILIES`.
"""

import pkgutil
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Float

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
        outputs: Float[jax.Array, "n outputs"],
        log_std: Float[jax.Array, " act_dim"] | None,
    ) -> "Distribution":
        """What a policy's outputs, and its free log_std if it has one, stand for."""
        ...

    def log_prob(
        self, actions: Float[jax.Array, "n act_dim"]
    ) -> Float[jax.Array, "n 1"]:
        """Log-density or log-probability of `actions`, nats."""
        ...

    def log_ratio(
        self, new: "Distribution", actions: Float[jax.Array, "n act_dim"]
    ) -> Float[jax.Array, "n 1"]:
        """log(new / own density) of `actions`, exact for tiny differences."""
        ...

    def entropy(self) -> Float[jax.Array, "m 1"]:
        """Entropy, nats; one row where it is the same for all."""
        ...

    def kl(self, new: "Distribution") -> Float[jax.Array, "n 1"]:
        """KL(self || new), nats, accurate relative to itself however small."""
        ...

    def sample(
        self, noise: Float[jax.Array, "n act_dim"]
    ) -> Float[jax.Array, "n act_dim"]:
        """Actions from `noise` of `trpo.spaces.action_heads.Head.draw_noise`."""
        ...

    def mode(self) -> Float[jax.Array, "n act_dim"]:
        """The most likely actions."""
        ...

    def fisher_metric(self, tangent: "Distribution") -> "Distribution":
        """The mean Fisher matrix over rows, in the parameters, times a tangent."""
        ...


BY_NAME: dict[str, Any] = {
    name: pkgutil.resolve_name(f"{__name__}.{family.distribution}")
    for name, family in FAMILIES.items()
}
