"""Tangents of PyTorch's distributions, by hand against automatic ones."""

import numpy as np
import pytest
import torch

from trpo.spaces.action_heads import Head
from trpo_torch import distributions


ROWS = 6
# Head and whether it has a mask.
HEADS = {
    "gaussian": (Head(2), False),
    "gaussian_state_std": (Head(2, "gaussian_state_std"), False),
    "squashed_gaussian_state_std": (Head(2, "squashed_gaussian_state_std"), False),
    "categorical": (Head(2, "categorical", (3, 2)), True),
    "bernoulli": (Head(3, "bernoulli"), True),
    "mixed": (Head(3, "mixed", (3, 2)), True),
    "mixed_state_std": (Head(3, "mixed_state_std", (3, 2)), False),
}


def arrays(head, masked):
    """Outputs and log_std, some beyond the clamp; tangents of both; a mask."""
    rng = np.random.default_rng(0)
    outputs, d_outputs = 4.0 * rng.standard_normal((2, ROWS, head.output_dim))
    free = head.family.free_log_std
    log_std, d_log_std = (
        np.linspace(-30.0, 1.0, head.reals) if free else None,
        rng.standard_normal(head.reals) if free else None,
    )
    mask = None
    if masked:
        mask = (rng.random((ROWS, sum(head.options))) < 0.5).astype(float)
        mask[:, np.cumsum((0, *head.options[:-1]))] = 1.0
    cast = [outputs, log_std, d_outputs, d_log_std, mask]
    return [None if array is None else array.astype(np.float32) for array in cast]


def pairs(head, masked):
    """(by hand, automatic) of push and of pull, each a list of arrays."""
    outputs, log_std, d_outputs, d_log_std, mask = (
        None if array is None else torch.from_numpy(array)
        for array in arrays(head, masked)
    )
    push, pull = distributions.jacobian(head, outputs, log_std, mask)
    at, tangents = (outputs,), (d_outputs,)
    if log_std is not None:
        at, tangents = (outputs, log_std), (d_outputs, d_log_std)

    def make(outputs, log_std=None):
        return distributions.from_network(head, outputs, log_std, mask)

    distribution, pushed = torch.func.jvp(make, at, tangents)
    # Any cotangent of that shape.
    u = type(distribution)(*(0.5 + field * 0.1 for field in pushed))
    pulled = torch.func.vjp(make, *at)[1](u)
    yield push(d_outputs, d_log_std), pushed
    yield [part for part in pull(u) if part is not None], pulled


@pytest.mark.parametrize("name", HEADS)
def test_tangents_by_hand_are_the_automatic_ones(name):
    for by_hand, automatic in pairs(*HEADS[name]):
        assert len(by_hand) == len(automatic)
        for ours, theirs in zip(by_hand, automatic, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
