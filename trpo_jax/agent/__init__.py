"""The agents: facades that hold weights, optimiser and random streams."""

from trpo_jax.agent.agent import TRPOAgent as TRPOAgent
from trpo_jax.agent.original_helpers import (
    _conjugate_gradient as _conjugate_gradient,
    _flat_grads as _flat_grads,
    _flat_params as _flat_params,
    _kl_old_to_new as _kl_old_to_new,
    _set_flat_params as _set_flat_params,
)
