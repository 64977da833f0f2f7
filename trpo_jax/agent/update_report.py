"""The report of an update, from its two halves."""

import jax
import jax.numpy as jnp

from trpo.data.report import DISCARDED_FIELDS, StepStatus, UpdateReport, report_fields
from trpo_jax.critic.value_update import ValueFit
from trpo_jax.policy_step.step import PolicyStep


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
    return stacked(report_fields(UpdateReport, step, fit), step.theta.dtype)


def stacked(fields: dict[str, jax.Array], dtype: jnp.dtype) -> jax.Array:
    """A report's fields as one vector, which leaves the device at once."""
    return jnp.stack([jnp.asarray(field, dtype) for field in fields.values()])
