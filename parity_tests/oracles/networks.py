"""Derivatives of networks that the backends differentiate automatically."""

from collections.abc import Callable

import numpy as np

from parity_tests.common.tolerances import assert_parity
from parity_tests.oracles.base import (
    DIFFERENCE,
    check_dense_fisher_of,
    check_surrogate_gradient_of,
    probe_of,
)
from parity_tests.problems import cases


def check_automatic_fisher(framework: str) -> None:
    """Both Fisher routes against J'MJ, J written out column by column."""
    check_dense_fisher_of(cases.build("silu_norm"), probe_of(framework, "silu_norm"))


def check_images(framework: str) -> None:
    """Gradient and Fisher products through encoders, against differences."""
    problem, probe = cases.build("images"), probe_of(framework, "images")
    flat, size = problem.policy().flat(), np.linalg.norm(problem.probe)
    # So small a step that none of some thousand relus has its kink on the way.
    check_surrogate_gradient_of(problem, probe, 1.0 / size)
    step = DIFFERENCE * problem.probe / size
    rise = probe.kl_gradient(flat + step) - probe.kl_gradient(flat - step)
    want = rise * size / (2.0 * DIFFERENCE) + 0.1 * problem.probe
    for route in ("gauss_newton", "kl_hessian"):
        got = probe.fisher(problem.probe, route)
        assert_parity("oracle/kl_hessian", got, want)


CHECKS: dict[str, Callable[[str], None]] = {
    "dense Fisher of other networks": check_automatic_fisher,
    "gradient and Fisher of images": check_images,
}
