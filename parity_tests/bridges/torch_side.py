"""Teacher-forced stages by the PyTorch backend."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity_tests.common.canonical import Arrays, flatten
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Fed, Teacher
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, thinned
from trpo_torch import TRPOAgent as TRPOAgent
from trpo_torch.agent import state
from trpo_torch.agent.update import is_fast, policy_function
from trpo_torch.critic import fit as critic_fit
from trpo_torch.devices.device import matmul_precision as precision_of
from trpo_torch.fast import critic as fast_critic
from trpo_torch.networks.feedforward import Critic, Policy, from_network
from trpo_torch.policy_step import fisher, objective, step as policy_step
from trpo_torch.solvers.conjugate_gradient import conjugate_gradient
from trpo_torch.solvers.line_search import LINE_SEARCHES


def stages(
    problem: Problem, teacher: Teacher, dtype: str, device: str, matmul_precision: str
) -> tuple[Arrays, dict[str, int]]:
    """Every teacher-forced stage, and the end-to-end solution and step."""
    runner = _Runner(problem, dtype, device)
    with precision_of(matmul_precision):
        values = {**runner.distribution(teacher), **runner.critic_values()}
        decisions: dict[str, int] = {}
        if problem.case.updates:
            solved, decisions = runner.solvers(teacher)
            values |= solved
    for name, tensor in values.items():
        assert tensor.device.type == device, f"{name} is on {tensor.device}"
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in values.items()
    }, decisions


def make_linear(agent: TRPOAgent, arrays: Arrays) -> None:
    """Give an agent networks without hidden layers."""
    dtype = getattr(torch, agent.dtype.name)
    agent.backend.policy = Policy(agent.obs_dim, (), agent.head)
    agent.backend.critic = Critic(agent.obs_dim, ())
    for module, prefix in ((agent.policy, "policy."), (agent.critic, "value.")):
        module.to(agent.device, dtype)
        state.load_network(module, arrays, prefix)
    agent.backend.value_optimizer = agent._build_value_optimizer(
        agent.critic.parameters()
    )


def make_policy(case: Any, dtype: str, device: str = "cpu") -> Policy:
    """The case's policy module, weights not yet loaded."""
    module = Policy(case.obs_dim, case.layers, case.head, case.architecture)
    return module.to(device, getattr(torch, dtype))


class _Runner:
    def __init__(self, problem: Problem, dtype: str, device: str) -> None:
        self.problem, self.dtype, self.device = problem, getattr(torch, dtype), device
        case = problem.case
        arrays = problem.batch.items()
        self.batch = Batch(**{name: self.tensor(array) for name, array in arrays})
        self.theta = self.tensor(flatten(problem.state, "policy."))
        module = make_policy(case, dtype, device)
        asked = problem.config.fast_products
        fast = {"fast": is_fast(asked, module, torch.device(device))}
        given = (module, self.batch.obs, self.batch.action_mask)
        self.policy = policy_function(*given, **fast)
        few = thinned(self.batch, problem.config.fisher_every)
        self.fisher_policy = policy_function(module, few.obs, few.action_mask, **fast)
        self.critic = Critic(case.obs_dim, case.layers, case.architecture)
        self.critic.to(device, self.dtype)
        arrays = {n: a.astype(dtype) for n, a in problem.state.items()}
        state.load_network(self.critic, arrays, "value.")

    def tensor(self, array: np.ndarray) -> Tensor:
        array = np.ascontiguousarray(array)
        return torch.from_numpy(array).to(self.device, self.dtype)

    def _at(self, output: np.ndarray, log_std: np.ndarray | None) -> Any:
        free = None if log_std is None else self.tensor(log_std[0])
        head = self.problem.case.head
        mask = self.batch.action_mask
        return from_network(head, self.tensor(output), free, mask)

    def distribution(self, teacher: Teacher) -> dict[str, Tensor]:
        old = self._at(teacher.output, teacher.log_std)
        new = self._at(teacher.new_output, teacher.new_log_std)
        at: Any = self.policy(self.theta)
        return {**at._asdict(), **of_distributions(old, new, self.batch)}

    def critic_values(self) -> dict[str, Tensor]:
        values = self.critic(self.batch.obs)
        theta = torch.cat([p.detach().reshape(-1) for p in self.critic.parameters()])
        gradient = torch.zeros_like(theta)
        options = self.problem.config.step_options()
        fit = critic_fit.sample_regression(
            self.critic, self.batch, self.problem.orders, options
        )
        samples = critic_fit.Samples(self.batch.obs, self.batch.returns)
        by_hand = is_fast(
            self.problem.config.fast_products, self.critic, torch.device(self.device)
        )
        loss_of = fast_critic if by_hand else critic_fit
        loss_of.loss_and_gradient(fit, theta, gradient)(samples)
        clipped = gradient.clone()
        critic_fit.clip_by_norm(clipped, self.problem.config.max_grad_norm)
        named = {"critic/gradient": gradient, "critic/clipped_gradient": clipped}
        return {"value": values, **named}

    def solvers(self, teacher: Teacher) -> tuple[dict[str, Tensor], dict[str, int]]:
        fed = (self.problem.probe, teacher.b, teacher.full_step)
        config, given = self.problem.config, (self.policy, self.theta, self.batch)
        values, decisions = of_solvers(
            *given, Fed(*map(self.tensor, fed)), config, self.fisher_policy
        )
        step = policy_step.policy_step(
            *given, config.step_options(), config.step_numbers(), self.fisher_policy
        )
        values["update/cg_solution"] = step.cg_solution
        values["update/full_step"] = step.full_step
        return values, decisions


def of_distributions(old: Any, new: Any, batch: Batch) -> dict[str, Tensor]:
    """What is taken of one distribution, and of two."""
    before = objective.surrogate(old, batch)
    return {
        "log_prob": old.log_prob(batch.actions),
        "entropy": old.entropy(),
        "kl": old.kl(new),
        "log_ratio": old.log_ratio(new, batch.actions),
        "surrogate": before.value,
        "ratio": before.ratio,
        "improvement": objective.surrogate_improvement(old, new, batch, before.ratio),
    }


def of_solvers(
    policy: fisher.PolicyFunction,
    theta: Tensor,
    batch: Batch,
    fed: Fed,
    config: TRPOConfig,
    fisher_policy: fisher.PolicyFunction | None = None,
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Gradient, Fisher products, and conjugate gradient and line search at `fed`."""
    chosen_objective = objective.objective_of(
        config.step_options(), config.step_numbers()
    )
    fisher_policy = fisher_policy or policy
    old, before, gradient = policy_step.surrogate_and_gradient(
        policy, theta, batch, chosen_objective
    )
    values = {"gradient": gradient}
    for route, build in fisher.FISHER_PRODUCTS.items():
        product = build(fisher_policy, theta, config.cg_damping)
        values[f"fisher/{route}"] = product(fed.probe)
        if route == config.fisher_product:
            chosen = product
    # As for a policy that does not know its own Jacobian.
    automatic = fisher.gauss_newton_product(
        lambda at: fisher_policy(at), theta, config.cg_damping
    )
    values["fisher/automatic"] = automatic(fed.probe)
    cg = conjugate_gradient(chosen, fed.b, config.cg_iters, config.cg_residual_tol)
    values["cg/solution"] = cg.x

    @torch.no_grad()
    def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
        new = policy(candidate)
        gain = chosen_objective.improvement(old, new, batch, before.ratio)
        return gain, objective.mean_kl(old, new)

    search = LINE_SEARCHES[config.line_search](
        evaluate,
        theta,
        fed.full_step,
        target_kl=config.target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters,
    )
    values["line_search/theta"] = search.theta
    values["line_search/improvement"] = search.improvement
    values["line_search/kl"] = search.kl
    index = search.num_candidates - 1 if search.accepted else -1
    return values, {
        "cg/iterations": int(cg.num_steps), "line_search/index": int(index)
    }  # fmt: skip
