"""JAX backend of `trpo`: the same agent, its whole update compiled."""

from trpo_jax.agent.agent import TRPOAgent as TRPOAgent
from trpo_jax.agent.constrained import ConstrainedTRPOAgent as ConstrainedTRPOAgent
from trpo_jax.agent.recurrent import RecurrentTRPOAgent as RecurrentTRPOAgent


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
