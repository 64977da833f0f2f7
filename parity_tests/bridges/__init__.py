"""Each backend's results on a test problem, as NumPy arrays.

`run` gives each stage's result under the names of `all_stages.run`. Everything a stage
needs enters as an array, so nothing but arithmetic can differ.
"""

import dataclasses
import functools
import importlib
from typing import Any

import numpy as np

from parity_tests.common.canonical import Arrays, flat_logits, flatten
from parity_tests.problems.cases import build
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Stages, Teacher, teach
from trpo.data.advantages import generalized_advantages, normalize_advantages
from trpo.data.normalization import ObservationNormalizer
from trpo.data.report import METRIC_NAMES


FRAMEWORKS = ("torch", "jax")

# Fields of the configuration that the case or the run decides.
SET_BY_CASE = (
    "policy_layer_sizes", "critic_layer_sizes", "policy_distribution", "dtype",
    "matmul_precision",
)  # fmt: skip

# Reported as decisions, not as quantities.
DISCRETE_METRICS = ("cg/iterations", "policy/status")


def side(framework: str) -> Any:
    """A backend's side of the bridge, whose framework is imported with it."""
    return importlib.import_module(f"parity_tests.bridges.{framework}_side")


@functools.lru_cache(maxsize=64)
def teacher_of(name: str, seed: int) -> Teacher:
    """The reference's intermediate results for case `name` and `seed`."""
    return teach(build(name, seed))


def run(
    framework: str,
    problem: Problem,
    teacher: Teacher,
    dtype: str,
    device: str = "cpu",
    matmul_precision: str = "float32",
) -> Stages:
    """All stages of a problem by one backend.

    Args:
        framework: "torch" or "jax".
        problem: The problem.
        teacher: Intermediate results that the teacher-forced stages start from.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        matmul_precision: "float32" or "tf32".
    """
    bridge, case = side(framework), problem.case
    values, decisions = bridge.stages(problem, teacher, dtype, device, matmul_precision)
    agent = make_agent(framework, problem, dtype, device, matmul_precision)
    if case.head.family.outputs_log_std:
        # Of a network, and so not exact as a free one is.
        values["state_log_std"] = values.pop("log_std")
    if "logits" in values:
        values["logits"] = flat_logits(values["logits"], case.action_sizes)
        if case.masked:
            values["logits"] = _without_forbidden(values["logits"], problem)
    values |= _rollout_values(agent, problem, dtype)
    stages = Stages(values, decisions, {}, {})
    if case.updates:
        update = run_update(agent, problem)
        values.update(update.values)
        decisions.update(update.decisions)
    return stages


def make_agent(
    framework: str,
    problem: Problem,
    dtype: str,
    device: str = "cpu",
    matmul_precision: str = "float32",
) -> Any:
    """An agent of the problem's sizes and configuration, in the problem's state."""
    case, config = problem.case, problem.config
    bridge = side(framework)
    agent = bridge.TRPOAgent(
        case.obs_dim,
        case.head.act_dim,
        -1.0,
        1.0,
        device,
        # The configuration refuses a linear policy; its networks are put in below.
        case.layers or (1,),
        case.layers or (1,),
        dtype=dtype,
        seed=problem.seed,
        matmul_precision=matmul_precision,
        distribution=case.distribution,
        action_sizes=case.action_sizes,
        images=case.images,
        **{
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if field.name not in SET_BY_CASE
        },
    )  # fmt: skip
    if not case.layers:
        bridge.make_linear(agent, cast(problem.state, dtype))
    agent.set_state(cast(problem.state, dtype) | _random_state(problem.seed))
    return agent


def _without_forbidden(logits: np.ndarray, problem: Problem) -> np.ndarray:
    """Logits with 0 for what the mask forbids, which they must make impossible."""
    mask = problem.batch["action_mask"]
    if not problem.case.action_sizes:
        off, on = mask[:, ::2], mask[:, 1::2]
        assert (logits[off == 0] == 1e9).all(), "a switch that must be on"
        assert (logits[on == 0] == -1e9).all(), "a switch that must be off"
        mask = off * on
    assert (abs(logits[mask == 0]) == 1e9).all(), "a forbidden option"
    return np.where(mask > 0, logits, np.zeros_like(logits))


def cast(arrays: Arrays, dtype: str) -> Arrays:
    """The arrays in a dtype, counters left alone."""
    return {
        name: array if array.dtype.kind == "i" else array.astype(dtype)
        for name, array in arrays.items()
    }


def _random_state(seed: int) -> Arrays:
    return {
        f"random.{name}": np.array(value, dtype=np.int64)
        for name, value in (("seed", seed), ("action_draws", 0), ("minibatch_draws", 0))
    }


def _rollout_values(agent: Any, problem: Problem, dtype: str) -> Arrays:
    """GAE from the backend's own values, and the policy at normalised observations."""
    rollout = problem.rollout

    def value(obs: np.ndarray) -> np.ndarray:
        flat = obs.reshape(-1, obs.shape[-1]).astype(dtype)
        return agent.value(flat).reshape(obs.shape[:2])

    advantages, returns = generalized_advantages(
        rollout["rewards"],
        value(rollout["obs"]),
        value(rollout["next_obs"]),
        rollout["terminated"],
        rollout["truncated"],
        gamma=problem.config.gamma,
        gae_lambda=problem.config.gae_lambda,
    )
    normalizer = ObservationNormalizer(problem.case.obs_dim)
    for part in np.split(rollout["raw_obs"], [25]):
        normalizer.update(part)
    obs = normalizer.normalize(rollout["raw_obs"], np.dtype(dtype))
    action, log_prob, _ = agent.act(obs, deterministic=True)
    head, policy_values = problem.case.head, {}
    # The mean of real numbers; of choices, what is continuous.
    if head.reals:
        policy_values["normalized/mean"] = action[:, : head.reals]
    if head.options:
        policy_values["normalized/log_prob"] = log_prob
    return {
        "gae/advantages": advantages.astype(dtype),
        "gae/returns": returns.astype(dtype),
        "gae/normalized": normalize_advantages(advantages).astype(dtype),
        "normalized/obs": obs,
        **policy_values,
    }


def run_update(agent: Any, problem: Problem) -> Stages:
    """The agent's own update, end to end; the agent is in the problem's state."""
    stages, dtype = Stages({}, {}, {}, {}), agent.dtype
    metrics = agent.update({n: a.astype(dtype) for n, a in problem.batch.items()})
    state = agent.get_state()
    stages.values["update/policy"] = flatten(state, "policy.")
    stages.values["update/critic"] = flatten(state, "value.")
    for slot in ("first_moment", "second_moment", "momentum"):
        prefix = f"value_optimizer.{slot}."
        if any(name.startswith(prefix) for name in state):
            stages.values[f"update/optimizer/{slot}"] = flatten(state, prefix)
    for name in METRIC_NAMES:
        if name not in DISCRETE_METRICS:
            # Reports carry Python floats, exact for either dtype.
            stages.values[f"metric/{name}"] = np.asarray(metrics[name], dtype=dtype)
    frac = metrics["policy/line_search_frac"]
    coefficient = problem.config.backtrack_coeff
    index = round(np.log(frac) / np.log(coefficient)) if frac > 0 else -1
    stages.decisions.update(
        {
            "update/cg_iterations": int(metrics["cg/iterations"]),
            "update/index": int(index),
            "update/accepted": int(metrics["policy/line_search_accepted"]),
            "update/status": int(metrics["policy/status"]),
        }
    )
    if "value_optimizer.step" in state:
        step = int(state["value_optimizer.step"])
        stages.decisions["update/optimizer_step"] = step
    return stages
