"""The report of an update, from its two halves."""

import jax
import jax.numpy as jnp

from trpo.types import DISCARDED_FIELDS, StepStatus, UpdateReport
from trpo_jax.policy_update import PolicyStep
from trpo_jax.value_update import ValueFit


def discard_unless(sound: jax.Array, step: PolicyStep) -> PolicyStep:
    """The report's half of a step, of one that was not committed unless `sound`."""
    undone = {
        name: jnp.where(sound, getattr(step, name), 0) for name in DISCARDED_FIELDS
    }
    return step._replace(
        status=jnp.where(sound, step.status, StepStatus.NON_FINITE),
        surrogate_after=jnp.where(sound, step.surrogate_after, step.surrogate_before),
        **undone,
    )


def report_of(step: PolicyStep, fit: ValueFit) -> jax.Array:
    """One update's numbers, stacked in `UpdateReport`'s order."""
    named = {"value_loss": fit.loss, "value_mae": fit.mae}
    named["explained_variance"] = fit.explained_variance
    for name in UpdateReport._fields:
        if name not in named:
            named[name] = getattr(step, name)
    report = UpdateReport(**named)
    return jnp.stack([jnp.asarray(value, step.theta.dtype) for value in report])
