# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""Planted faults of the policy step's options; see `mutants.py`."""

from parity_tests.mutation.mutant import (
    in_group,
    jax as _jax,
    shared as _shared,
    torch as _torch,
)


STEP = in_group(
    "step",
    _shared("the first samples for every k-th", "data/batch:thinned",
            "field[::every]", "field[: -(-len(field) // every)]"),
    _torch("Fisher products over all samples", "agent/agent:TRPOBackend._fisher_policy",
           "if (every := self.config.fisher_every) == 1:", "if (every := self.config.fisher_every) >= 1:"),
    _jax("Fisher products over all samples", "agent/update:fisher_policy", "if every == 1:", "if every >= 1:"),
    _torch("entropy left out of the improvement", "policy_step/objective:with_entropy.improvement",
           "return gain + coefficient * reduction.mean(change)", "return gain"),
    _jax("entropy penalised", "policy_step/objective:with_entropy.value", "value=found.value + bonus",
         "value=found.value - bonus"),
    _jax("natural gradient searched", "solvers/line_search:take_full_step",
         "accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)",
         "accepted = enabled & (improvement > 0.0) & (kl <= target_kl)"),
)  # fmt: skip
