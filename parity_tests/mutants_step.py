# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""Planted faults of the policy step's options; see `mutants.py`."""

from parity_tests.mutant_kinds import (
    jax as _jax,
    looked_for,
    shared as _shared,
    torch as _torch,
)


STEP = looked_for(
    "step",
    _shared("every k-th sample from the second on", "step_options",
            "field[::every]", "field[1::every]"),
    _torch("gradient on a sample too", "policy_update",
           "policy, theta, batch, parts.objective\n",
           "fisher_policy or policy, theta, Batch(*(None if f is None else f[:: config.fisher_every] for f in batch)), parts.objective\n"),
    _jax("Fisher products over all samples", "compiled", "            fisher_policy,\n", "            None,\n"),
    _torch("entropy left out of the improvement", "objective",
           "return gain + coefficient * reduction.mean(change)", "return gain"),
    _jax("entropy penalised", "objective", "value=found.value + bonus",
         "value=found.value - bonus"),
    _torch("start's residual forgotten", "preconditioned_cg",
           "return start, residual, 1", "return start, b, 1"),
    _jax("start's product not counted", "preconditioned_cg",
         "jnp.where(useful, residual, b), 1", "jnp.where(useful, residual, b), 0"),
    _jax("whole solution for a share", "step_parts",
         "config.cg_warm_start * last", "last"),
    _torch("solution not remembered", "step_memory", "kept = solution", "kept = kept"),
    _torch("damping lowered where the model was wrong", "step_memory",
           "factor = 1.0 if agreement >= POOR else DAMPING_FACTOR",
           "factor = 1.0 if agreement < POOR else DAMPING_FACTOR"),
    _jax("damping remembered, not used", "step_memory",
         "return config.cg_damping if memory.damping is None else memory.damping",
         "return config.cg_damping"),
    _torch("best of all candidates", "line_search", "j = int(good.int().argmax())",
           "j = int((improvements * good).argmax())"),
    _jax("batched candidates may leave the region", "line_search",
         "good = enabled & (improvements > 0.0) & (kls <= target_kl)",
         "good = enabled & (improvements > 0.0)"),
    _jax("natural gradient searched", "line_search",
         "accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)",
         "accepted = enabled & (improvement > 0.0) & (kl <= target_kl)"),
)  # fmt: skip
