"""JAX backend of `trpo`: the same agent, its whole update compiled."""

from trpo_jax.agent import TRPOAgent as TRPOAgent
from trpo_jax.constrained_agent import ConstrainedTRPOAgent as ConstrainedTRPOAgent
from trpo_jax.recurrent_agent import RecurrentTRPOAgent as RecurrentTRPOAgent


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
