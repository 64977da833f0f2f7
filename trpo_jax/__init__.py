"""JAX backend of `trpo`: the same agent, its whole update compiled."""

from trpo_jax.agent import TRPOAgent as TRPOAgent


__all__ = ["TRPOAgent"]
