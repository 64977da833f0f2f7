"""The grid of problems on which the backends are compared, each from a seed.

All numbers are exact in float32, so that a float32 backend's error is arithmetic alone
and not the rounding of its inputs.
"""

import functools

import numpy as np

from parity_tests.common.canonical import Arrays, parameter_shapes, round32
from parity_tests.problems.grid import BY_NAME, GRID
from parity_tests.reference import (
    distributions as reference_distributions,
    networks as reference,
)
from parity_tests.reference.problem import Case, Problem
from trpo.common.random_streams import Purpose, RandomStream, minibatch_orders
from trpo.config.run import TRPOConfig


# Every case's own `config` goes over these; few, so that a case takes little time.
# Advantages are as the problem has them.
DEFAULTS = {
    "value_minibatch_size": 16, "value_epochs": 3, "cg_iters": 10,
    "normalize_advantages": False,
}  # fmt: skip


@functools.lru_cache(maxsize=256)
def build(name: str, seed: int = 0) -> Problem:
    """The problem of case `name` and `seed`, always the same one."""
    case = BY_NAME[name]
    index = [row.name for row in GRID].index(name)
    rng = np.random.default_rng([seed, index])
    fields = {**DEFAULTS, **dict(case.config)}
    config = TRPOConfig(**fields)
    state = _weights(rng, case)
    batch = _batch(rng, case)
    if case.masked:
        batch["action_mask"] = _mask(rng, case)
    network = reference.Network.policy(state, case.architecture)
    at = reference.forward(network, batch["obs"])
    distribution = reference_distributions.distribution_of(case.head)
    if case.masked:
        distribution = distribution.masked(batch["action_mask"])
    batch["actions"] = round32(
        distribution.sample(at, case.head.draw_noise(rng, case.batch))
    )
    log_probs = distribution.likelihood(at, batch["actions"]).log_prob
    stale = case.staleness * rng.standard_normal(log_probs.shape)
    batch["log_probs"] = round32(log_probs + stale)
    nearby = {
        name: round32(
            array + case.nearby * (0.2 + abs(array)) * rng.standard_normal(array.shape)
        )
        for name, array in state.items()
        if name.startswith("policy.")
    }
    size = sum(state[name].size for name in nearby)
    state |= _optimizer_state(rng, case, config.optimizer_type)
    stream = RandomStream(seed, Purpose.MINIBATCH)
    orders = minibatch_orders(
        stream.at(0), epochs=config.value_epochs, size=case.batch
    ).copy()
    probe = round32(rng.standard_normal(size))
    rollout = _rollout(rng, case)
    return Problem(case, seed, config, state, batch, orders, nearby, probe, rollout)


def _weights(rng: np.random.Generator, case: Case) -> Arrays:
    state = {}
    for network, sizes in (
        ("policy", case.policy_sizes),
        ("value", case.critic_sizes),
    ):
        free = case.free_log_std if network == "policy" else 0
        for name, shape in parameter_shapes(sizes, free, case.architecture):
            scale = 0.3 if len(shape) == 1 else 1.0 / np.sqrt(np.prod(shape[1:]))
            array = scale * rng.standard_normal(shape)
            around = name.startswith("norms.") and name.endswith("weight")
            state[f"{network}.{name}"] = around + array
    _bring_to(case, state)
    return {name: round32(array) for name, array in state.items()}


def _bring_to(case: Case, state: Arrays) -> None:
    """Change weights in place to what the case's regime stands for."""
    last = len(case.layers)
    if case.regime == "fresh":
        state[f"policy.layers.{last}.weight"] *= 0.01
        for name in (n for n in state if n.endswith(("bias", "log_std"))):
            state[name] *= 0.0
    elif case.regime == "saturated":
        state["policy.layers.0.weight"] *= 4.0
        state["value.layers.0.weight"] *= 4.0
    elif case.regime == "peaked":
        state[f"policy.layers.{last}.weight"] *= 6.0
    elif case.regime == "dead_units":
        # Nothing reads half of the first layer's units: their weights have Fisher 0.
        state["policy.layers.1.weight"][:, ::2] = 0.0
    elif case.regime == "log_std_high":
        _raise_log_std(case, state)
    elif case.regime == "log_std_low":
        state["policy.log_std"] = np.array([-20.0, -25.0, -0.5])
        # With std 2e-9, an action is its mean in float32; the mean has to be exact.
        state[f"policy.layers.{last}.weight"][:2] = 0.0


def _raise_log_std(case: Case, state: Arrays) -> None:
    high = np.array([2.0, 2.5, 1.5])
    if case.head.family.free_log_std:
        state["policy.log_std"] = high
    else:
        # At and above the clamp in all rows alike; the third about it, by row.
        output = f"policy.layers.{len(case.layers)}"
        state[f"{output}.bias"][case.act_dim :] = high
        state[f"{output}.weight"][case.act_dim : -1] = 0.0


def _batch(rng: np.random.Generator, case: Case) -> Arrays:
    rows = 1 if case.regime == "constant_obs" else case.batch
    obs = rng.standard_normal((rows, case.obs_dim))
    for image in case.images:
        pixels = obs[:, image.part]
        pixels[:] = rng.integers(0, 256, pixels.shape)
    obs = np.repeat(obs, case.batch // rows, axis=0)
    advantages = case.advantage_scale * (rng.standard_normal((case.batch, 1)) + 0.3)
    returns = 2.0 * rng.standard_normal((case.batch, 1)) + 1.0
    arrays = {"obs": obs, "returns": returns, "advantages": advantages}
    return {name: round32(array) for name, array in arrays.items()}


def _mask(rng: np.random.Generator, case: Case) -> np.ndarray:
    """Random masks [N, options], each choice with at least one option."""
    parts = []
    for size in case.head.options:
        part = rng.random((case.batch, size)) < 0.5
        part[np.arange(case.batch), rng.integers(size, size=case.batch)] = True
        parts.append(part)
    return np.concatenate(parts, 1).astype(np.float64)


def _optimizer_state(rng: np.random.Generator, case: Case, kind: str) -> Arrays:
    """The optimiser's state in mid-training, or before its first step when fresh."""
    slots = {"adam": ("first_moment", "second_moment"), "sgd": ("momentum",)}[kind]
    scale = 0.0 if case.regime == "fresh" else 0.1
    state = {}
    for slot in slots:
        shapes = parameter_shapes(case.critic_sizes, 0, case.architecture)
        for name, shape in shapes:
            array = round32(scale * rng.standard_normal(shape))
            if slot == "second_moment":
                # At least the first moment's square, as in any real history.
                array = round32(2.0 * array**2 + scale**2)
            state[f"value_optimizer.{slot}.{name}"] = array
    if kind == "adam":
        steps = 0 if case.regime == "fresh" else 7
        state["value_optimizer.step"] = np.array(steps, dtype=np.int64)
    return state


def _rollout(rng: np.random.Generator, case: Case) -> Arrays:
    steps, envs = 12, 3
    terminated = rng.random((steps, envs)) < 0.15
    truncated = ~terminated & (rng.random((steps, envs)) < 0.15)
    # Raw observations far from zero: normalising them has to subtract first.
    offset = 100.0 * rng.standard_normal(case.obs_dim)
    return {
        "obs": round32(rng.standard_normal((steps, envs, case.obs_dim))),
        "next_obs": round32(rng.standard_normal((steps, envs, case.obs_dim))),
        "raw_obs": offset + rng.standard_normal((40, case.obs_dim)),
        "rewards": round32(rng.standard_normal((steps, envs))),
        "terminated": terminated,
        "truncated": truncated,
    }
