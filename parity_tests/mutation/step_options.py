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
    _torch("Fisher products over all samples", "agent/agent:TRPOAgent._fisher_policy",
           "return self._policy_function(thinned(batch, every)) if every > 1 else None",
           "return None"),
    _jax("Fisher products over all samples", "agent/update:fisher_policy", "if every == 1:", "if every >= 1:"),
    _torch("entropy left out of the improvement", "policy_step/objective:with_entropy.improvement",
           "return gain + coefficient * reduction.mean(change)", "return gain"),
    _jax("entropy penalised", "policy_step/objective:with_entropy.value", "value=found.value + bonus",
         "value=found.value - bonus"),
    _torch("start's residual forgotten", "preconditioned_cg:_begin",
           "return start, residual, 1", "return start, b, 1"),
    _jax("start's product not counted", "preconditioned_cg:_begin",
         "jnp.where(useful, residual, b), 1", "jnp.where(useful, residual, b), 0"),
    _jax("whole solution for a share", "policy_step/step_parts:solve_from_memory",
         "else share * last", "else last"),
    _torch("solution not remembered", "step_memory:remember", "kept = solution", "kept = kept"),
    _torch("damping lowered where the model was wrong", "step_memory:adapted_damping",
           "factor = 1.0 if agreement >= POOR else DAMPING_FACTOR",
           "factor = 1.0 if agreement < POOR else DAMPING_FACTOR"),
    _jax("damping remembered, not used", "step_memory:damping_of",
         "return config.cg_damping if memory.damping is None else memory.damping",
         "return config.cg_damping"),
    _torch("best of all candidates", "solvers/line_search:batched_line_search", "j = int(good.int().argmax())",
           "j = int((improvements * good).argmax())"),
    _jax("batched candidates may leave the region", "solvers/line_search:batched_line_search",
         "good = enabled & (improvements > 0.0) & (kls <= target_kl)",
         "good = enabled & (improvements > 0.0)"),
    _jax("natural gradient searched", "solvers/line_search:take_full_step",
         "accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)",
         "accepted = enabled & (improvement > 0.0) & (kl <= target_kl)"),
)  # fmt: skip
