# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""Planted faults of constrained updates; see `mutants.py`."""

from parity_tests.mutation.mutant import in_group, jax as _jax, torch as _torch


CONSTRAINED = in_group(
    "constrained",
    _torch("limit not kept by the line search", "policy_step/constrained:Comparison.merit",
           "return torch.where(kept, merit, -torch.inf)", "return merit"),
    _torch("reward sought where the cost must fall", "policy_step/constrained:Comparison.merit",
           "merit = -change if by_cost else improvement", "merit = improvement"),
    _torch("excess not in units of the gradient", "policy_step/constrained:_solve",
           "excess / torch.where(has_cost, cost.norm, 1.0),", "excess,"),
    _torch("recovery uphill", "policy_step/constrained_dual:solve_dual", "down = -torch.sqrt(", "down = torch.sqrt("),
    _torch("the plane's other side", "policy_step/constrained_dual:solve_dual", "-(c + along * r) / s,",
           "(c - along * r) / s,"),
    _torch("limit compared at the full radius's half", "policy_step/constrained_dual:solve_dual",
           "or c + free * r <= 0 or", "or c + 0.5 * free * r <= 0 or"),
    _torch("cost critic fitted to rewards", "agent/constrained:ConstrainedBackend._fit_critics",
           "samples._replace(returns=batch.cost_returns)", "samples"),
    _jax("limit not kept by the line search", "policy_step/constrained:Comparison.merit",
         "return jnp.where(kept, merit, -jnp.inf)", "return merit"),
    _jax("slope of the reward along the cost's direction", "policy_step/constrained:_solve",
         "slope = inner(cost.unit, reward.cg.x)",
         "slope = inner(reward.unit, cost.cg.x)"),
    _jax("multiplier of unit gradients", "policy_step/constrained:_solve",
         "cost_multiplier=dual.cost_multiplier * per_cost",
         "cost_multiplier=dual.cost_multiplier"),
    _jax("KL as if every step reached the border", "policy_step/constrained:_model",
         "kl = 0.5 * (damped - numbers.cg_damping * model.norm**2)", "kl = model.kl"),
    _jax("all of the gradient along the plane", "policy_step/constrained_dual:solve_dual",
         "rest = q - r * r / safe_s", "rest = q"),
    _jax("no recovery", "policy_step/constrained_dual:solve_dual", "recovers = room <= 0", "recovers = room < -1e9"),
    _jax("cost critic with the critic's optimiser", "agent/update:_critics",
         "critics.append((state.costs, of_costs))",
         "critics.append((state.costs._replace(optimizer=state.optimizer), of_costs))"),
)  # fmt: skip
