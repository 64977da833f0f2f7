"""Preconditioners of conjugate gradient: v -> M^-1 v, with M near F + damping.

For policies that are stacks of dense layers. A sample's score, the gradient of its
action's log-probability, is in each layer the outer product g a' of the score g by the
layer's sums and its input a, with a 1 for the bias. F is the mean of the scores' outer
products over the policy's own actions, of which the batch has one for each sample: they
estimate it, so that no others are drawn. log_std's own block is diagonal and exact.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trpo_torch.networks.mlp import Layer
from trpo_torch.policy_step.flat_policy import FlatPolicy


Precondition = Callable[[Tensor], Tensor]
POWER = 0.75


def diagonal(
    policy: FlatPolicy,
    theta: Float[Tensor, " p"],
    actions: Float[Tensor, "n act_dim"],
    damping: float | Tensor,
) -> Precondition:
    """M = (diag(F) + damping)^0.75, with the mean squares of scores for diag(F).

    Those of a weight are means of g^2 a^2 (Martens 2010, "Deep Learning via
    Hessian-free Optimization", section 4.7).

    Args:
        policy: At the samples that Fisher products are means over.
        theta: Flat parameters.
        actions: Taken at these samples.
        damping: Multiple of the identity that is added to F.
    """
    layers, of_log_std = policy.scores(theta, actions)
    damped = 1.0 if of_log_std is None else (of_log_std + damping) ** POWER
    squares = [_mean_squares(a, g, damping) for a, g in layers]
    divide = [lambda v, m=m: Layer(*map(operator.truediv, v, m)) for m in squares]
    return lambda v: policy.by_layer(v, damped, divide)


def kronecker(
    policy: FlatPolicy,
    theta: Float[Tensor, " p"],
    actions: Float[Tensor, "n act_dim"],
    damping: float | Tensor,
) -> Precondition:
    """M's block of a layer is (A + pi sqrt(damping)) x (G + sqrt(damping) / pi).

    A is the mean of a a' and G that of g g'; pi^2 is the ratio of their mean
    eigenvalues (Martens and Grosse 2015, "Optimizing Neural Networks with
    Kronecker-factored Approximate Curvature", section 6.3; blocks alone).

    Args:
        policy: At the samples that Fisher products are means over.
        theta: Flat parameters.
        actions: Taken at these samples.
        damping: Multiple of the identity that is added to F.
    """
    layers, of_log_std = policy.scores(theta, actions)
    damped = 1.0 if of_log_std is None else of_log_std + damping
    solve = [_factored(a, g, damping) for a, g in layers]
    return lambda v: policy.by_layer(v, damped, solve)


def nothing(*_given: Any) -> None:
    """No preconditioner, of any policy."""


PRECONDITIONERS = {"none": nothing, "diagonal": diagonal, "kronecker": kronecker}


def _mean_squares(a: Tensor, g: Tensor, damping: float | Tensor) -> Layer:
    squares = g * g
    weight = squares.t() @ (a * a) / len(a)
    bias = squares.mean(0)
    return Layer((weight + damping) ** POWER, (bias + damping) ** POWER)


def _factored(
    a: Tensor, g: Tensor, damping: float | Tensor
) -> Callable[[Layer], Layer]:
    """V -> G^-1 V A^-1 for V = [weight, bias], with damped factors."""
    a = torch.cat([a, a.new_ones(len(a), 1)], 1)
    of_inputs, of_scores = (x.t() @ x / len(x) for x in (a, g))
    sizes = [factor.diagonal().mean() for factor in (of_inputs, of_scores)]
    # Where no score reaches a layer there is nothing to balance.
    ratio = sizes[0] / torch.where(sizes[1] > 0, sizes[1], sizes[0])
    like: dict[str, Any] = {"dtype": a.dtype, "device": a.device}
    pi, root = torch.sqrt(ratio), torch.sqrt(torch.as_tensor(damping, **like))
    left, right = (
        # Not `cholesky`, which raises where arithmetic has overflowed.
        torch.linalg.cholesky_ex(factor + shift * torch.eye(len(factor), **like))[0]
        for factor, shift in ((of_scores, root / pi), (of_inputs, root * pi))
    )

    def solve(v: Layer) -> Layer:
        block = torch.cat([v.weight, v.bias[:, None]], 1)
        solved = torch.cholesky_solve(block, left)
        solved = torch.cholesky_solve(solved.t(), right).t()
        return Layer(solved[:, :-1], solved[:, -1])

    return solve
