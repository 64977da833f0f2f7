"""The policy in NumPy that collects rollouts, against both backends."""

import importlib

import numpy as np
import pytest

from trpo.agent.host_policy import ACTIVATIONS
from trpo.rollout.acting import HostActor, actor_of
from trpo.spaces.action_heads import BERNOULLI, CATEGORICAL, FAMILIES, MIXTURES


ROWS, OBS_DIM = 64, 5
SIZES = {CATEGORICAL: (2, (3, 4)), BERNOULLI: (3, ())} | dict.fromkeys(
    MIXTURES, (4, (3, 2))
)
# Of an action of about 1: rounding, and sums in another order.
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("distribution", FAMILIES)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_same_noise_is_the_same_action(backend, distribution, dtype):
    act_dim, action_sizes = SIZES.get(distribution, (3, ()))
    activation = sorted(ACTIVATIONS)[list(FAMILIES).index(distribution) % 4]
    one, other = (
        importlib.import_module(f"trpo_{backend}").TRPOAgent(
            OBS_DIM, act_dim, -1.0, 1.0, "cpu", (16, 8), (4,), dtype=dtype,
            distribution=distribution, action_sizes=action_sizes, seed=3,
            activation=activation, normalize_observations=True,
        )
        for _ in range(2)
    )  # fmt: skip
    generator = np.random.default_rng(7)
    obs = generator.normal(2.0, 3.0, (ROWS, OBS_DIM))
    for agent in (one, other):
        agent.observe(obs[::2])
        state = agent.get_state()
        for name, array in state.items():
            if name.startswith("policy."):
                array += 0.3 * np.cos(np.arange(array.size)).reshape(array.shape)
        agent.set_state(state)
    masks = [None]
    if one.head.options:
        allowed = generator.random((ROWS, sum(one.head.options))) < 0.6
        allowed[:, np.cumsum((0, *one.head.options[:-1]))] = True
        masks.append(allowed)
    actor, starts = actor_of(other, ROWS), np.zeros(ROWS, dtype=bool)
    assert isinstance(actor, HostActor)
    for mask in masks:
        for deterministic in (True, False, False):
            expected = one.act(obs, deterministic, mask)[0]
            actions = actor.act(obs, starts, mask, deterministic)
            tolerance = TOLERANCES[dtype]
            np.testing.assert_allclose(
                actions, expected, rtol=tolerance, atol=tolerance
            )
