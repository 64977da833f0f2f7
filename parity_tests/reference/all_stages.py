"""Every stage's value by the third implementation, under the bridges' names."""

import numpy as np

from parity_tests.common.canonical import Arrays
from parity_tests.reference import (
    critic as reference_critic,
    networks as reference,
    step_options,
    update as parts,
)
from parity_tests.reference.distributions import (
    distribution_of,
    distribution_of_problem,
)
from parity_tests.reference.networks import Forward, Network, Noise, exact
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Stages, Teacher


# Determined by the inputs and by decisions: float32 has to round them correctly.
EXACT = ("log_std", "metric/policy/line_search_accepted")


def run(
    problem: Problem,
    teacher: Teacher,
    noise: Noise = exact,
    decisions: dict[str, int] | None = None,
) -> Stages:
    """All stages, teacher-forced and end to end.

    Args:
        problem: The problem.
        teacher: Intermediate results that the teacher-forced stages start from.
        noise: Simulated rounding of each layer's and stage's result.
        decisions: Decisions to take in place of the computed ones.
    """
    stages = Stages({}, {}, {}, {})
    _distribution_stages(stages, problem, teacher, noise)
    _critic_stages(stages, problem, noise)
    _rollout_stages(stages, problem, noise)
    if problem.case.updates:
        _solver_stages(stages, problem, teacher, noise, decisions)
        _update_stages(stages, problem, noise, decisions)
    return stages


def run_update(
    problem: Problem, noise: Noise = exact, decisions: dict[str, int] | None = None
) -> Stages:
    """The update alone, end to end, as `run` does it."""
    stages = Stages({}, {}, {}, {})
    _update_stages(stages, problem, noise, decisions)
    # An agent does not report these.
    for name in ("update/cg_solution", "update/full_step"):
        del stages.values[name]
    return stages


def _distribution_stages(
    stages: Stages, problem: Problem, teacher: Teacher, noise: Noise
) -> None:
    values, batch = stages.values, problem.batch
    policy = problem.policy()
    at = reference.forward(policy, batch["obs"], noise)
    distribution = distribution_of_problem(problem)
    values |= distribution.fields(at)
    old = Forward(teacher.output, teacher.log_std, ())
    new = Forward(teacher.new_output, teacher.new_log_std, ())
    likelihood, _, ratio = parts.surrogate_terms(problem, old, noise)
    values["log_prob"], values["ratio"] = likelihood.log_prob, ratio
    values["entropy"] = distribution.entropy(old, noise)
    terms = ratio * batch["advantages"]
    values["surrogate"] = noise(reference.mean_rows(noise(terms), noise))
    stages.scales["surrogate"] = float(abs(terms).mean())
    stages.scales["log_prob"] = float(np.linalg.norm(likelihood.terms))
    # A difference of log-probs passes their rounding on, exponentiated.
    stages.scales["ratio"] = float(
        np.linalg.norm(ratio * (1.0 + abs(likelihood.log_prob)))
    )
    change = distribution.compare(
        old, new, likelihood.residual, batch["actions"], noise
    )
    values["kl"], values["log_ratio"] = change.kl, change.log_ratio
    stages.scales["log_ratio"] = float(np.linalg.norm(change.terms))
    with np.errstate(over="ignore"):
        gain = ratio * np.expm1(values["log_ratio"]) * batch["advantages"]
    values["improvement"] = noise(reference.mean_rows(gain, noise))
    stages.scales["improvement"] = float(abs(gain).mean())
    if problem.case.updates:
        values["gradient"] = parts.surrogate_gradient(problem, policy, at, noise)
        product = parts._product(problem, policy, at, noise)
        values["fisher/gauss_newton"] = product(problem.probe)
        for route in ("automatic", "kl_hessian"):
            values[f"fisher/{route}"] = values["fisher/gauss_newton"].copy()


def _critic_stages(stages: Stages, problem: Problem, noise: Noise) -> None:
    critic, batch = problem.critic(), problem.batch
    stages.values["value"] = reference.forward(critic, batch["obs"], noise).output
    _, gradient = reference_critic.loss_and_gradient(problem, critic, noise)
    stages.values["critic/gradient"] = gradient
    clipped = noise(reference_critic.clip(gradient, problem.config.max_grad_norm))
    stages.values["critic/clipped_gradient"] = clipped


def _rollout_stages(stages: Stages, problem: Problem, noise: Noise) -> None:
    rollout, values = problem.rollout, stages.values
    critic = problem.critic()

    def value(obs: np.ndarray) -> np.ndarray:
        flat = obs.reshape(-1, obs.shape[-1])
        return reference.forward(critic, flat, noise).output.reshape(obs.shape[:2])

    now, later = value(rollout["obs"]), value(rollout["next_obs"])
    advantages = reference.gae(rollout, now, later, problem.config)
    values["gae/advantages"], values["gae/returns"] = advantages, advantages + now
    values["gae/normalized"] = (advantages - advantages.mean()) / advantages.std()
    values["normalized/obs"] = noise(normalized(rollout["raw_obs"]))
    policy = problem.policy()
    at = reference.forward(policy, values["normalized/obs"], noise)
    for name, array in (
        distribution_of(problem.case.head).deterministic(at, noise).items()
    ):
        values[f"normalized/{name}"] = array


def normalized(obs: np.ndarray) -> np.ndarray:
    """Observations normalised by their own moments."""
    scaled = (obs - obs.mean(0)) / np.sqrt(obs.var(0) + parts.VARIANCE_EPSILON)
    return np.clip(scaled, -parts.OBSERVATION_CLIP, parts.OBSERVATION_CLIP)


def _solver_stages(
    stages: Stages,
    problem: Problem,
    teacher: Teacher,
    noise: Noise,
    decisions: dict[str, int] | None,
) -> None:
    decisions = decisions or {}
    policy, batch = problem.policy(), problem.batch
    at = reference.forward(policy, batch["obs"], noise)
    product = parts._product(problem, policy, at, noise)
    count = decisions.get("cg/iterations")
    cg = parts.conjugate_gradient(product, teacher.b, problem.config, count, noise)
    stages.values["cg/solution"] = cg.x
    stages.decisions["cg/iterations"] = cg.count
    stages.traces["cg"] = cg.trace
    ratio = parts.surrogate_terms(problem, at, noise).ratio
    search = parts.line_search(
        problem, policy, at, ratio, teacher.full_step, noise,
        decisions.get("line_search/index"),
    )  # fmt: skip
    _record_search(stages, "line_search", search)


def _record_search(stages: Stages, name: str, search: parts.Search) -> None:
    j = search.index
    stages.decisions[f"{name}/index"] = j
    stages.traces[f"{name}/improvement"] = search.improvements
    stages.traces[f"{name}/kl"] = search.kls
    if name == "line_search":
        stages.values[f"{name}/theta"] = search.theta
        stages.values[f"{name}/improvement"] = search.improvements[j] * (j >= 0)
        stages.values[f"{name}/kl"] = search.kls[j] * (j >= 0)
        stages.scales[f"{name}/improvement"] = search.terms[j] * (j >= 0)


def _update_stages(
    stages: Stages, problem: Problem, noise: Noise, decisions: dict[str, int] | None
) -> None:
    decisions, config, batch = decisions or {}, problem.config, problem.batch
    policy = problem.policy()
    at = reference.forward(policy, batch["obs"], noise)
    norm, b = parts.unit_gradient(problem, policy, at, noise)
    cg = parts.conjugate_gradient(
        parts._product(problem, policy, at, noise), b, config,
        decisions.get("update/cg_iterations"), noise,
    )  # fmt: skip
    full_step = parts.scaled_step(cg, b, config, noise)
    ratio = parts.surrogate_terms(problem, at, noise).ratio
    search = parts.line_search(
        problem, policy, at, ratio, full_step, noise, decisions.get("update/index")
    )
    stages.values["update/cg_solution"] = cg.x
    stages.values["update/full_step"] = full_step
    stages.values["update/policy"] = search.theta
    stages.decisions["update/accepted"] = int(search.index >= 0)
    stages.decisions["update/cg_iterations"] = cg.count
    stages.traces["update/cg"] = cg.trace
    _record_search(stages, "update", search)
    status = 4 if norm <= 1e-12 else int(search.index < 0)
    stages.decisions["update/status"] = status
    _policy_metrics(stages, problem, (norm, b, cg, full_step), ratio, search, noise)
    _fit_stages(stages, problem, noise)


def _policy_metrics(
    stages: Stages,
    problem: Problem,
    step: tuple,
    ratio: np.ndarray,
    search: parts.Search,
    noise: Noise,
) -> None:
    norm, b, cg, full_step = step
    before = reference.forward(problem.policy(), problem.batch["obs"], noise)
    config, batch, j = problem.config, problem.batch, search.index
    new = Network.from_flat(search.theta, problem.policy())
    at = reference.forward(new, batch["obs"], noise)
    _, log_ratio, new_ratio = parts.surrogate_terms(problem, at, noise)
    entropy = distribution_of_problem(problem).entropy(at, noise)
    terms = ratio * batch["advantages"]
    frac = config.backtrack_coeff**j if j >= 0 else 0.0
    improvement = search.improvements[j] if j >= 0 else 0.0
    expected = noise(norm * (b @ full_step))
    predicted = frac * expected
    squared = noise(full_step @ full_step)
    surrogate = reference.mean_rows(terms, noise)
    surrogate += step_options.entropy_bonus(problem, before, noise)
    metrics = {
        "policy/surrogate_before": surrogate,
        "policy/surrogate_after": surrogate + improvement,
        "policy/improvement": improvement,
        "policy/kl": search.kls[j] if j >= 0 else 0.0,
        "policy/entropy": reference.mean_rows(entropy, noise),
        "policy/step_norm": np.sqrt(squared),
        "policy/expected_improve": expected,
        "policy/line_search_frac": frac,
        "policy/line_search_accepted": float(j >= 0),
        "policy/ratio_mean": reference.mean_rows(new_ratio, noise),
        "policy/ratio_std": new_ratio.std(),
        "policy/old_approx_kl": -reference.mean_rows(log_ratio, noise),
        "cg/residual": np.linalg.norm(cg.residual),
        "policy/predicted_kl": frac**2
        * (config.target_kl - 0.5 * config.cg_damping * squared),
        "policy/agreement": improvement / predicted if predicted > 0 else 0.0,
    }
    gain_terms = search.terms[j] if j >= 0 else 0.0
    scales = {
        "policy/surrogate_before": abs(terms).mean(),
        "policy/surrogate_after": abs(terms).mean(),
        "policy/improvement": gain_terms,
        "policy/old_approx_kl": abs(log_ratio).mean() + 1.0,
        # The residual of b, whose norm is 1; a converged one is rounding error.
        "cg/residual": 1.0,
        "policy/ratio_std": new_ratio.mean(),
        "policy/predicted_kl": config.target_kl,
        "policy/agreement": gain_terms / predicted if predicted > 0 else 0.0,
    }
    _record_metrics(stages, metrics, scales, noise)


def _record_metrics(
    stages: Stages, metrics: dict, scales: dict[str, float], noise: Noise
) -> None:
    for name, value in metrics.items():
        exact_one = f"metric/{name}" in EXACT
        value = np.float64(value)
        # The whole step is 1 times it; a shorter one is a product of factors.
        exact_one |= name == "policy/line_search_frac" and value in (0.0, 1.0)
        stages.values[f"metric/{name}"] = value if exact_one else noise(value)
    for name, scale in scales.items():
        stages.scales[f"metric/{name}"] = float(scale)


def _fit_stages(stages: Stages, problem: Problem, noise: Noise) -> None:
    returns = problem.batch["returns"]
    critic, slots, losses = reference_critic.fit_critic(problem, noise)
    stages.values["update/critic"] = critic.flat()
    step = int(slots.pop("step"))
    if problem.config.optimizer_type == "adam":
        stages.decisions["update/optimizer_step"] = step
    for name, array in slots.items():
        stages.values[f"update/optimizer/{name}"] = array
    values = reference.forward(critic, problem.batch["obs"], noise).output
    errors = returns - values
    variance = returns.var()
    share = noise(noise(errors.var()) / noise(variance)) if variance > 0 else 1.0
    metrics: Arrays = {
        "loss/value": losses.mean(),
        "value/mae": reference.mean_rows(abs(errors), noise),
        "value/explained_variance": 1.0 - share,
    }
    scales = {"value/explained_variance": 1.0 + share}
    _record_metrics(stages, metrics, scales, noise)
