"""One trust-region step of the policy, a pure function of its arguments."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo.data.report import StepStatus
from trpo_torch import distributions
from trpo_torch.devices import reduction
from trpo_torch.devices.device import to_floats
from trpo_torch.distributions import Distribution
from trpo_torch.policy_step.fisher import PolicyFunction
from trpo_torch.policy_step.flat_policy import FlatPolicy
from trpo_torch.policy_step.objective import (
    SURROGATE,
    Objective,
    Surrogate,
    mean_kl,
    surrogate,
)
from trpo_torch.policy_step.step_parts import LinearSystem, step_parts
from trpo_torch.solvers.conjugate_gradient import CGResult, inner
from trpo_torch.solvers.line_search import LineSearchResult
from trpo_torch.step_memory import NO_MEMORY, StepMemory, damping_of, remember


# A gradient of this Euclidean norm or less is rounding error.
ZERO_GRADIENT_NORM = 1e-12


class PolicyStep(NamedTuple):
    """Outcome of a trust-region step; scalars are `trpo.data.report.UpdateReport`'s.

    Attributes:
        theta: [p] new parameters; the old ones, bit for bit, unless ACCEPTED.
        cg_solution: [p] conjugate gradient's solution of (F + damping) x = g / |g|.
        full_step: [p] longest step the line search tried.
        memory: for the next step.
    """

    theta: Float[Tensor, " p"]
    cg_solution: Float[Tensor, " p"]
    full_step: Float[Tensor, " p"]
    surrogate_before: Tensor
    surrogate_after: Tensor
    improvement: Tensor
    kl: Tensor
    entropy: Tensor
    step_norm: Tensor
    expected_improve: Tensor
    line_search_frac: float
    line_search_accepted: bool
    ratio_mean: Tensor
    ratio_std: Tensor
    old_approx_kl: Tensor
    cg_iterations: int
    cg_residual: float
    status: StepStatus
    predicted_kl: Tensor
    agreement: Tensor
    memory: StepMemory = NO_MEMORY


class LocalModel(NamedTuple):
    """Predictions of the linear and the quadratic model for the full step.

    Attributes:
        step: [p] the step; zeros where none can be computed.
        norm: Euclidean length of `step`.
        improvement: gradient's inner product with `step`.
        kl: s'Fs / 2 without damping, in nats.
    """

    step: Float[Tensor, " p"]
    norm: Tensor
    improvement: Tensor
    kl: Tensor


def policy_step(
    policy: PolicyFunction,
    theta: Float[Tensor, " p"],
    batch: Batch,
    config: TRPOConfig,
    target_kl: float | None = None,
    memory: StepMemory = NO_MEMORY,
    fisher_policy: PolicyFunction | None = None,
) -> PolicyStep:
    """Natural-gradient step onto the trust region's border, then a line search.

    Args:
        policy: Flat parameters -> distribution at each sample of the batch.
        theta: Old parameters.
        batch: Samples.
        config: Hyperparameters.
        target_kl: Trust-region radius, nats; the configuration's if None.
        memory: Of the step before.
        fisher_policy: The policy at the samples that Fisher products are means over;
            `policy` if None.
    """
    parts = step_parts(config)
    target_kl = config.target_kl if target_kl is None else target_kl
    theta = theta.detach()
    old, before, gradient = surrogate_and_gradient(
        policy, theta, batch, parts.objective
    )
    grad_norm = torch.sqrt(inner(gradient, gradient))
    # The unit-norm right-hand side makes the residual's tolerance relative, and the
    # solution independent of the advantages' scale.
    b = gradient / torch.where(grad_norm > 0, grad_norm, 1.0)
    damping = damping_of(config, memory)
    product = parts.curvature(fisher_policy or policy, theta, damping)
    cg = parts.solver(LinearSystem(product, b, memory), config)
    # x'(F + damping)x without one more product: A x = b - r.
    x_f_x = inner(cg.x, b - cg.residual)
    trouble = trouble_of(grad_norm, cg, x_f_x)
    full_step = torch.zeros_like(theta)
    if trouble is None:
        full_step = parts.scaling(cg.x, x_f_x, target_kl)
    candidates = _Candidates(policy, old, batch, before.ratio, parts.objective)
    search = parts.search(
        candidates.evaluate,
        theta,
        full_step,
        target_kl=target_kl,
        backtrack_coeff=config.backtrack_coeff,
        backtrack_iters=config.backtrack_iters if trouble is None else 0,
    )
    if trouble is None and not search.accepted:
        trouble = StepStatus.LINE_SEARCH_EXHAUSTED
    status = StepStatus.ACCEPTED if trouble is None else trouble
    new = candidates.at(search.theta) if search.accepted else old
    model = local_model(full_step, grad_norm, b, target_kl, damping)
    step = summary(new, batch, before, cg, model, search, status)
    return step._replace(memory=remember(memory, config, cg.x, step.agreement, status))


def surrogate_and_gradient(
    policy: PolicyFunction,
    theta: Tensor,
    batch: Batch,
    objective: Objective = SURROGATE,
) -> tuple[Distribution, Surrogate, Tensor]:
    """Old distribution, surrogate and the surrogate's gradient, all detached."""
    found: list[Surrogate] = []

    def value(distribution: Distribution) -> Tensor:
        found.append(objective.value(distribution, batch))
        return found[-1].value

    by_hand = isinstance(policy, FlatPolicy)
    old, gradient = (
        policy.gradient(theta, value) if by_hand else _gradient(policy, theta, value)
    )
    before = Surrogate(*(field.detach() for field in found[-1]))
    return old, before, reduction.total(gradient)


def _gradient(
    policy: PolicyFunction, theta: Tensor, function: Callable[[Distribution], Tensor]
) -> tuple[Distribution, Tensor]:
    """The distribution, and the gradient with respect to flat parameters."""
    at = theta.detach().requires_grad_()
    distribution = policy(at)
    (gradient,) = torch.autograd.grad(function(distribution), at)
    return distribution._make(field.detach() for field in distribution), gradient


class _Candidates:
    """Improvement and KL of the parameters that the line search tries."""

    def __init__(
        self,
        policy: PolicyFunction,
        old: Distribution,
        batch: Batch,
        ratio: Tensor,
        objective: Objective,
    ) -> None:
        self._policy, self._old, self._batch = policy, old, batch
        self._ratio, self._objective = ratio, objective
        self._last: tuple[Tensor | None, Distribution] = None, old

    @torch.no_grad()
    def evaluate(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Improvement [] and mean KL []."""
        new = self._policy(theta)
        self._last = theta, new
        given = (self._old, new, self._batch, self._ratio)
        return reduction.together(
            lambda: (self._objective.improvement(*given), mean_kl(self._old, new))
        )

    @torch.no_grad()
    def at(self, theta: Tensor) -> Distribution:
        """The policy at the accepted parameters, the last that were tried if any."""
        last, new = self._last
        return new if last is theta else self._policy(theta)


def local_model(
    step: Tensor,
    grad_norm: Tensor,
    b: Tensor,
    target_kl: float,
    damping: float | Tensor,
) -> LocalModel:
    """Predictions for a step to the trust region's border; `b` is the unit gradient."""
    length_sq = inner(step, step)
    return LocalModel(
        step,
        torch.sqrt(length_sq),
        grad_norm * inner(b, step),
        # s'(F + damping)s / 2 is target_kl by construction.
        target_kl - 0.5 * damping * length_sq,
    )


def trouble_of(grad_norm: Tensor, cg: CGResult, x_f_x: Tensor) -> StepStatus | None:
    """Why no step can be computed, or None."""
    norm, product = to_floats(grad_norm, x_f_x)
    if not all(map(_is_finite, (norm, cg.residual_sq, cg.curvature, product))):
        return StepStatus.NON_FINITE
    if norm <= ZERO_GRADIENT_NORM:
        return StepStatus.ZERO_GRADIENT
    if cg.curvature <= 0.0 or product <= 0.0:
        return StepStatus.NON_POSITIVE_CURVATURE
    return None


def _is_finite(number: float) -> bool:
    return abs(number) < float("inf")


@torch.no_grad()
def summary(
    new: Distribution,
    batch: Batch,
    before: Surrogate,
    cg: CGResult,
    model: LocalModel,
    search: LineSearchResult,
    status: StepStatus,
) -> PolicyStep:
    """The outcome, without a memory: `new` is the policy at the search's `theta`."""
    after = surrogate(new, batch)
    predicted = search.frac * model.improvement
    return PolicyStep(
        theta=search.theta,
        cg_solution=cg.x,
        full_step=model.step,
        surrogate_before=before.value,
        surrogate_after=before.value + search.improvement,
        improvement=search.improvement,
        kl=search.kl,
        entropy=reduction.mean(distributions.entropy(new)),
        step_norm=model.norm,
        expected_improve=model.improvement,
        line_search_frac=search.frac,
        line_search_accepted=search.accepted,
        ratio_mean=reduction.mean(after.ratio),
        ratio_std=torch.sqrt(reduction.variance(after.ratio)),
        old_approx_kl=-reduction.mean(after.log_ratio),
        cg_iterations=cg.num_steps,
        cg_residual=cg.residual_sq**0.5,
        status=status,
        predicted_kl=search.frac**2 * model.kl,
        agreement=torch.where(
            predicted > 0, search.improvement / predicted, torch.zeros_like(predicted)
        ),
    )
