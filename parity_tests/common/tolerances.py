"""The suite's table of bounds: (quantity, dtype) -> bound, each with its reason.

There is no default. A quantity that has no row can't be compared: add the row, and with
it the reason. Errors are norm-wise and relative: |got - want| / max(|want|, scale),
where `scale` is the norm of the terms that cancel in `want`, if they do.
"""

from typing import NamedTuple

import numpy as np

from parity_kit.tolerances import IDENTITY, relative_error


class Bound(NamedTuple):
    """Largest relative error, and why it is that."""

    value: float
    reason: str


def _rows(dtype: str, value: float, reasons: dict[str, str]) -> dict:
    return {(name, dtype): Bound(value, reason) for name, reason in reasons.items()}


# Ring A. Measured: 1e-16 to 1e-12.
STAGES = {
    "mean": "a few matrix products and tanh",
    "log_std": "a clamp: exact",
    "state_log_std": "a few matrix products and tanh, then a clamp",
    "logits": "a few matrix products and tanh",
    "value": "a few matrix products and tanh",
    "log_prob": "relative to its terms, which may cancel",
    "entropy": "a sum over actions",
    "kl": "cancellation-free: as exact as its inputs",
    "log_ratio": "relative to its terms; cancellation-free in the policy's change",
    "surrogate": "relative to the mean of absolute terms",
    "ratio": "exp passes the absolute error of log-probs on as a relative one",
    "improvement": "relative to the mean of absolute terms",
    "gradient": "one backward pass",
    "fisher/gauss_newton": "a tangent and a backward pass",
    "fisher/automatic": "the same, by automatic differentiation",
    "fisher/kl_hessian": "equals J'MJ at the old parameters, by another route",
    "cg/solution": "ten products; amplified by cond(F), measured where it matters",
    "line_search/theta": "parameters plus a given step",
    "line_search/improvement": "relative to the mean of absolute terms",
    "line_search/kl": "cancellation-free in the policy's change",
    "critic/gradient": "one backward pass",
    "critic/clipped_gradient": "a gradient times its clipping coefficient",
    "gae/advantages": "recursion of 12 steps on the critic's values",
    "gae/returns": "advantages plus values",
    "gae/normalized": "two means",
    "normalized/obs": "raw observations are 100 standard deviations from zero",
    "normalized/mean": "normalised observations through the policy",
    "normalized/log_prob": "normalised observations through the policy and a softmax",
    "update/cg_solution": "as cg/solution, on the backend's own gradient",
    "update/full_step": "the solution, scaled onto the trust region's border",
    "update/policy": "parameters plus the accepted step",
    "update/critic": "all minibatch steps of the critic's fit",
    "update/optimizer/first_moment": "all minibatch steps of the critic's fit",
    "update/optimizer/second_moment": "all minibatch steps of the critic's fit",
    "update/optimizer/momentum": "all minibatch steps of the critic's fit",
    "metric/policy/surrogate_before": "relative to the mean of absolute terms",
    "metric/policy/surrogate_after": "relative to the mean of absolute terms",
    "metric/policy/improvement": "relative to the mean of absolute terms",
    "metric/policy/kl": "twice the step's relative error",
    "metric/policy/entropy": "a sum over actions",
    "metric/policy/step_norm": "the step's relative error",
    "metric/policy/expected_improve": "gradient times step",
    "metric/policy/line_search_frac": "a power of the backtracking coefficient",
    "metric/policy/line_search_accepted": "0 or 1",
    "metric/policy/ratio_mean": "exp of log-ratios",
    "metric/policy/ratio_std": "relative to the ratios' mean",
    "metric/policy/old_approx_kl": "relative to 1 plus the mean absolute log-ratio",
    "metric/policy/predicted_kl": "relative to target_kl, of which it is a remainder",
    "metric/policy/agreement": "improvement over its prediction",
    "metric/cg/residual": "relative to the right-hand side, whose norm is 1",
    "metric/loss/value": "mean of the minibatches' losses",
    "metric/value/mae": "mean absolute error after the fit",
    "metric/value/explained_variance": "relative to 1 plus the unexplained share",
}

CONSTRAINED = {
    "update/cost_critic": "as update/critic",
    "update/cost_optimizer/first_moment": "as update/optimizer",
    "update/cost_optimizer/second_moment": "as update/optimizer",
    "metric/cost/surrogate_change": "relative to the mean of absolute terms",
    "metric/cost/predicted_change": "cost gradient times step",
    "metric/cost/kl_multiplier": "root of a difference; amplified where it cancels",
    "metric/cost/cost_multiplier": "a difference; amplified where it cancels",
    "metric/loss/cost_value": "mean of the minibatches' losses",
    "metric/cost/value_mae": "mean absolute error after the fit",
    "metric/cost/explained_variance": "relative to 1 plus the unexplained share",
}

# The recorded vectors of the original agent (see golden/README.md).
GOLDEN = {
    ("golden/forward", "float64"): Bound(1e-12, "the same formula"),
    ("golden/forward", "float32"): Bound(1e-5, "100 roundings of 6e-8"),
    ("golden/gradient", "float64"): Bound(1e-12, "the same formula"),
    ("golden/gradient", "float32"): Bound(1e-5, "100 roundings of 6e-8"),
    ("golden/fisher", "float64"): Bound(1e-12, "its KL's 1e-8 reproduced"),
    ("golden/fisher", "float32"): Bound(1e-5, "100 roundings of 6e-8"),
    ("golden/kl", "float64"): Bound(1e-11, "its KL's 1e-8 reproduced; it cancels"),
    ("golden/kl", "float32"): Bound(1e-5, "100 roundings of 6e-8"),
    ("golden/recorded_kl", "float64"): Bound(1e-11, "the same formula; it cancels"),
    ("golden/recorded_kl", "float32"): Bound(
        1e-4, "a last bit of the 1/2 that it subtracts, 6e-8, of a KL of 4e-4"
    ),
    ("golden/cg", "float64"): Bound(1e-11, "its denominators' 1e-8 reproduced"),
    ("golden/cg", "float32"): Bound(1e-2, "ten float32 iterations"),
    ("golden/step", "float64"): Bound(5e-3, "1e-8 in CG's denominators, absolute stop"),
    ("golden/step", "float32"): Bound(1e-2, "the same, in float32"),
    ("golden/critic", "float64"): Bound(1e-9, "the same optimiser"),
    ("golden/critic", "float32"): Bound(1e-5, "100 roundings of 6e-8"),
}

ORACLES = {
    ("oracle/fisher", "float64"): Bound(1e-12, "dense J'MJ from an explicit Jacobian"),
    ("oracle/cg", "float64"): Bound(1e-9, "dense solves; cond(A) times roundoff"),
    ("oracle/kl_gradient", "float64"): Bound(1e-7, "central differences of 1e-5"),
    ("oracle/kl_hessian", "float64"): Bound(1e-6, "central differences of a gradient"),
    ("oracle/kl", "float64"): Bound(1e-14, "60 digits; a few float64 roundings"),
    ("oracle/kl", "float32"): Bound(1e-6, "60 digits; a few float32 roundings"),
    ("oracle/log_prob", "float64"): Bound(1e-14, "60 digits, relative to its terms"),
    ("oracle/log_prob", "float32"): Bound(1e-6, "60 digits, relative to its terms"),
    ("oracle/log_ratio", "float64"): Bound(1e-14, "60 digits, relative to its terms"),
    ("oracle/log_ratio", "float32"): Bound(1e-6, "60 digits, relative to its terms"),
    ("oracle/distribution", "float64"): Bound(1e-12, "torch.distributions' formula"),
    ("oracle/entropy", "float64"): Bound(1e-12, "an integral in steps, std below 0.3"),
    ("oracle/gae", "float64"): Bound(1e-12, "each return summed on its own"),
    ("oracle/moments", "float64"): Bound(1e-12, "all data at once"),
    ("oracle/critic_gradient", "float64"): Bound(1e-7, "central differences of 1e-5"),
    ("oracle/gradient", "float64"): Bound(1e-7, "central differences of 1e-5"),
    ("oracle/dual", "float64"): Bound(1e-10, "a closed form; half digits at borders"),
    ("oracle/dense_program", "float64"): Bound(1e-6, "an iterative solver's accuracy"),
    ("oracle/recurrent", "float64"): Bound(1e-12, "complex steps; sums over six steps"),
    ("recurrent/update", "float64"): Bound(1e-10, "as ring A's whole updates"),
}

METAMORPHIC = {
    ("metamorphic/permutation", "float64"): Bound(1e-12, "sums in another order"),
    ("metamorphic/duplicate", "float64"): Bound(1e-12, "means over twice the samples"),
    ("metamorphic/units", "float64"): Bound(1e-12, "sums in another order"),
    ("metamorphic/symmetry", "float64"): Bound(1e-12, "relative to |u| |Fv|"),
}

BOUNDS: dict[tuple[str, str], Bound] = {
    **_rows("float64", IDENTITY, STAGES | CONSTRAINED),
    **GOLDEN,
    **ORACLES,
    **METAMORPHIC,
}

# TF32. The simulation rounds everything to TF32, the hardware only what it multiplies:
# half of float32's bound (2.1 where torch's products were rounded by hand), and
# bfloat16 does not pass. Its thresholds are crossed more often (9 % by hand).
TF32_UNSTABLE = 4.0
TF32_MAX_TIE_SHARE = 0.2
# What TF32's rounding of matrix products must show in, or it was not on.
TF32_SHOWS_IN = ("mean", "value", "gradient", "critic/gradient", "fisher/gauss_newton")


def assert_parity(
    quantity: str, got: np.ndarray, want: np.ndarray, scale: float = 0.0
) -> float:
    """Assert equal dtype and shape, and the error within the quantity's bound.

    Returns:
        The relative error.

    Raises:
        KeyError: the table has no bound for this quantity in this dtype.
        AssertionError: the arrays differ by more, or either has a NaN.
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{quantity}: {got.dtype} against {want.dtype}"
    assert got.shape == want.shape, f"{quantity}: {got.shape} against {want.shape}"
    bound = BOUNDS[quantity, str(got.dtype)]
    error = relative_error(got, want, scale)
    # Written so that NaN fails.
    assert error <= bound.value, (
        f"{quantity} [{got.dtype}]: relative error {error:.2e} is not within "
        f"{bound.value:.0e} ({bound.reason})"
    )
    return error
