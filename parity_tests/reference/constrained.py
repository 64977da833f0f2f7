"""The third implementation of constrained updates, in NumPy.

The dual is solved as in Achiam et al. 2017, appendix 10.2: the best multiplier on
either side of the border inside it, of which the better is taken. The backends solve it
by other formulas, so that only the problem is shared.
"""

import math
from typing import NamedTuple

import numpy as np

from parity_tests.reference import (
    all_stages,
    networks as reference,
    update as parts,
)
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Noise, exact
from parity_tests.reference.problem import ConstrainedProblem
from parity_tests.reference.update import CGRun, Search, Stages
from trpo.data.report import StepKind


# Start of a name of the critic's stages -> of the cost critic's.
OF_CRITIC = {
    "update/critic": "update/cost_critic",
    "update/optimizer/": "update/cost_optimizer/",
    "metric/loss/value": "metric/loss/cost_value",
    "metric/value/": "metric/cost/",
}


class Direction(NamedTuple):
    """A gradient's norm, the unit gradient, and its natural gradient."""

    norm: float
    unit: np.ndarray
    cg: CGRun


class Multipliers(NamedTuple):
    """Kind of step, lambda and nu; 0 in recovery."""

    kind: StepKind
    of_kl: float
    of_cost: float


def run(
    problem: ConstrainedProblem,
    noise: Noise = exact,
    decisions: dict[str, int] | None = None,
) -> Stages:
    """The whole update, under the names of `oracles.constrained.run`.

    Args:
        problem: The problem.
        noise: Simulated rounding of each layer's and stage's result.
        decisions: Decisions to take in place of the computed ones.
    """
    stages, decisions, base = Stages({}, {}, {}, {}), decisions or {}, problem.base
    reward, cost = directions(problem, noise, decisions)
    step, dual, of_step = _full_step(problem, reward, cost, noise, decisions)
    search, changes = _search(problem, step, dual.kind, noise, decisions)
    ratio = _ratio(problem, noise)
    stages.values["update/policy"] = search.theta
    stages.decisions.update({
        "update/accepted": int(search.index >= 0),
        "update/status": int(search.index < 0),
        "update/cg_iterations": reward.cg.count,
        "update/cost_cg_iterations": cost.cg.count,
        "update/kind": int(dual.kind),
        "update/index": search.index,
    })  # fmt: skip
    stages.traces["update/cg"] = reward.cg.trace
    stages.traces["update/improvement"] = search.improvements
    stages.traces["update/kl"] = search.kls
    summary = (reward.norm, reward.unit, reward.cg, step)
    all_stages._policy_metrics(stages, base, summary, ratio, search, noise)
    frac = base.config.backtrack_coeff**search.index if search.index >= 0 else 0.0
    damped = 0.5 * (of_step - base.config.cg_damping * step @ step)
    stages.values["metric/policy/predicted_kl"] = noise(frac**2 * damped)
    _cost_metrics(stages, problem, (reward, cost, step, dual), changes, search, noise)
    all_stages._fit_stages(stages, base, noise)
    _cost_critic(stages, problem, noise)
    return stages


def directions(
    problem: ConstrainedProblem, noise: Noise, decisions: dict[str, int]
) -> tuple[Direction, Direction]:
    """Directions of reward and cost."""
    base = problem.base
    policy = base.policy()
    at = reference.forward(policy, base.batch["obs"], noise)
    product = parts._product(base, policy, at, noise)
    both = []
    for samples, name in ((base, "cg"), (problem.of_costs, "cost_cg")):
        gradient = parts.surrogate_gradient(samples, policy, at, noise)
        norm = float(np.linalg.norm(gradient))
        unit = noise(gradient / norm)
        count = decisions.get(f"update/{name}_iterations")
        cg = parts.conjugate_gradient(product, unit, base.config, count, noise)
        both.append(Direction(norm, unit, cg))
    return both[0], both[1]


def reach(problem: ConstrainedProblem) -> float:
    """Largest change of the linearised cost within the trust region."""
    _, cost = directions(problem, exact, {})
    square = cost.cg.x @ (cost.unit - cost.cg.residual)
    return cost.norm * math.sqrt(2.0 * problem.base.config.target_kl * square)


def multipliers(q: float, r: float, s: float, c: float, radius: float) -> Multipliers:
    """Multipliers of max g'x where c + b'x <= 0, x'Hx / 2 <= radius (appendix 10.2).

    For each lambda the best nu is max(0, (r + lambda c) / s). Where that is above 0 the
    dual is (q - r^2 / s) / (2 lambda) + lambda (radius - c^2 / (2 s)) - r c / s, and
    else q / (2 lambda) + lambda radius.
    """
    room = 2.0 * radius - c * c / s
    if room <= 0 and c > 0:
        return Multipliers(StepKind.RECOVERY, 0.0, 0.0)
    values = []
    border = -r / c if c else math.inf
    for inside in (True, False):
        low, high = _interval(r, c, border, inside)
        if low > high:
            continue
        if inside and room <= 0:
            continue
        top, slope = (q - r * r / s, room) if inside else (q, 2.0 * radius)
        best = min(max(math.sqrt(top / slope), low), high)
        value = top / (2.0 * best) + 0.5 * slope * best - (r * c / s if inside else 0.0)
        values.append((value, best, inside))
    _, of_kl, inside = min(values)
    if not inside:
        return Multipliers(StepKind.FREE, of_kl, 0.0)
    return Multipliers(StepKind.BOUND, of_kl, (r + of_kl * c) / s)


def _interval(r: float, c: float, border: float, inside: bool) -> tuple[float, float]:
    """Lambdas at which r + lambda c > 0 (inside), or at most 0."""
    if c == 0:
        return (0.0, math.inf) if (r > 0) == inside else (1.0, 0.0)
    if (c > 0) == inside:
        return max(border, 0.0), math.inf
    return (0.0, border) if border > 0 else (1.0, 0.0)


def _full_step(
    problem: ConstrainedProblem,
    reward: Direction,
    cost: Direction,
    noise: Noise,
    decisions: dict[str, int],
) -> tuple[np.ndarray, Multipliers, float]:
    """The step, its multipliers in units of the gradients, and s'(F + damping)s."""
    radius = problem.base.config.target_kl
    u, v = reward.cg.x, cost.cg.x
    q = noise(u @ (reward.unit - reward.cg.residual))
    r = noise(cost.unit @ u)
    s = noise(v @ (cost.unit - cost.cg.residual))
    mixed = noise(u @ (cost.unit - cost.cg.residual))
    c = float(problem.costs["cost_excess"]) / cost.norm
    dual = multipliers(float(q), float(r), float(s), c, radius)
    kind = StepKind(decisions.get("update/kind", dual.kind))
    assert kind == dual.kind, "rounding alone changed the kind of step"
    if kind == StepKind.RECOVERY:
        a, b = 0.0, -math.sqrt(2.0 * radius / s)
    else:
        a, b = 1.0 / dual.of_kl, -dual.of_cost / dual.of_kl
    step = noise(a * u + b * v)
    in_gradient_units = Multipliers(
        kind, dual.of_kl * reward.norm, dual.of_cost * reward.norm / cost.norm
    )
    return (
        step,
        in_gradient_units,
        float(noise(a * a * q + 2.0 * a * b * mixed + b * b * s)),
    )


def _ratio(problem: ConstrainedProblem, noise: Noise) -> np.ndarray:
    at = forward(problem, problem.base.policy().flat())
    return parts.surrogate_terms(problem.base, at, noise).ratio


def _search(
    problem: ConstrainedProblem,
    step: np.ndarray,
    kind: StepKind,
    noise: Noise,
    decisions: dict[str, int],
) -> tuple[Search, tuple[np.ndarray, np.ndarray]]:
    """Every candidate; and the cost's changes with the means of their terms."""
    base, config = problem.base, problem.base.config
    batch, distribution = base.batch, distribution_of_problem(base)
    theta, old = base.policy().flat(), forward(problem, base.policy().flat())
    ratio = _ratio(problem, noise)
    residual = distribution.likelihood(old, batch["actions"]).residual
    kls, gains, costs, candidates = [], [], [], []
    for j in range(config.backtrack_iters):
        candidates.append(noise(theta + config.backtrack_coeff**j * step))
        network = reference.Network.from_flat(candidates[-1], base.policy())
        new = reference.forward(network, batch["obs"], noise)
        change = distribution.compare(old, new, residual, batch["actions"])
        grown = ratio * np.expm1(noise(change.log_ratio))
        gains.append(grown * batch["advantages"])
        costs.append(grown * problem.costs["cost_advantages"])
        kls.append(reference.mean_rows(noise(change.kl), noise))
    gained, spent = (
        np.array([noise(reference.mean_rows(rows, noise)) for rows in terms])
        for terms in (gains, costs)
    )
    kls, excess = np.array(kls), float(problem.costs["cost_excess"])
    lowers = kind != StepKind.FREE and excess > 0
    good = (spent < 0 if lowers else gained > 0) & (kls <= config.target_kl)
    good &= excess + spent <= max(excess, 0.0)
    index = decisions.get("update/index", int(np.argmax(good)) if good.any() else -1)
    chosen = candidates[index] if index >= 0 else theta
    sizes = (np.array([abs(rows).mean() for rows in terms]) for terms in (gains, costs))
    of_gains, of_costs = sizes
    return Search(index, chosen, gained, kls, of_gains), (spent, of_costs)


def _cost_metrics(
    stages: Stages,
    problem: ConstrainedProblem,
    step: tuple[Direction, Direction, np.ndarray, Multipliers],
    changes: tuple[np.ndarray, np.ndarray],
    search: Search,
    noise: Noise,
) -> None:
    _, cost, full_step, dual = step
    taken, j = search.index >= 0, search.index
    frac = problem.base.config.backtrack_coeff**j if taken else 0.0
    metrics = {
        "cost/surrogate_change": changes[0][j] if taken else 0.0,
        "cost/predicted_change": noise(frac * cost.norm * (cost.unit @ full_step)),
        "cost/kl_multiplier": dual.of_kl,
        "cost/cost_multiplier": dual.of_cost,
    }
    scales = {"cost/surrogate_change": changes[1][j] if taken else 0.0}
    all_stages._record_metrics(stages, metrics, scales, noise)


def _cost_critic(stages: Stages, problem: ConstrainedProblem, noise: Noise) -> None:
    critic_stages = Stages({}, {}, {}, {})
    all_stages._fit_stages(critic_stages, problem.of_costs, noise)
    for name, array in critic_stages.values.items():
        stages.values[of_cost_critic(name)] = array
    for name, scale in critic_stages.scales.items():
        stages.scales[of_cost_critic(name)] = scale


def of_cost_critic(name: str) -> str:
    """The cost critic's name for one of the critic's."""
    for old, new in OF_CRITIC.items():
        if name.startswith(old):
            tail = name.removeprefix(old)
            return new + ("value_mae" if tail == "mae" else tail)
    raise KeyError(name)


def forward(problem: ConstrainedProblem, theta: np.ndarray) -> reference.Forward:
    """The policy at flat parameters."""
    policy = reference.Network.from_flat(theta, problem.base.policy())
    return reference.forward(policy, problem.base.batch["obs"])
