"""Oracles of recurrent agents: networks, derivatives, updates and rollouts."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jax.flatten_util import ravel_pytree

from parity_tests.common.canonical import Arrays
from parity_tests.common.process_setup import QUICK
from parity_tests.common.tolerances import assert_parity
from parity_tests.problems import recurrent as recurrent_problems
from parity_tests.problems.recurrent import RecurrentProblem, agent, build
from parity_tests.reference import recurrent as reference
from trpo.rollout.collector import RolloutCollector
from trpo_jax.agent import state as jax_state
from trpo_jax.critic import fit as jax_critic, fit_sequences as jax_fit
from trpo_jax.policy_step import fisher as jax_fisher, step as jax_update
from trpo_torch.critic import fit as torch_critic, fit_sequences as torch_fit
from trpo_torch.policy_step import fisher as torch_fisher, step as torch_update


KINDS = ("gru", "lstm")
ROUTES = ("gauss_newton", "kl_hessian")
# Environments of a critic's minibatch.
CHOSEN = np.array([2, 0], dtype=np.int32)
# Of no epoch.
ORDERS = np.zeros((0, recurrent_problems.ENVS), dtype=np.int32)


@functools.lru_cache
def expected_results(kind: str) -> Arrays:
    """The reference of a problem; derivatives [p] in the order of canonical names."""
    problem = build(kind)
    policy, critic = problem.weights("policy"), problem.weights("value")
    actions, mask = problem.samples("actions"), problem.samples("action_mask")

    def surrogate(weights: Arrays) -> np.ndarray:
        outputs = problem.outputs(weights)
        log_prob = reference.log_probs(outputs, weights, actions, mask)
        ratio = np.exp(log_prob - problem.samples("log_probs"))
        return (ratio * problem.samples("advantages")).mean()

    def error(weights: Arrays) -> np.ndarray:
        valid, returns = problem.batch["valid"], problem.batch["returns"]
        errors = (problem.values(weights) - returns)[:, CHOSEN]
        return (errors[valid[:, CHOSEN]] ** 2).mean()

    outputs = problem.outputs(policy)
    jacobian = reference.derivatives(problem.outputs, policy)
    matrix = reference.fisher(outputs, jacobian, policy, mask)
    damping = recurrent_problems.OPTIONS["cg_damping"]
    return {
        "outputs": outputs,
        "values": problem.values(critic),
        "surrogate": surrogate(policy),
        "gradient": reference.derivatives(surrogate, policy),
        "fisher": matrix @ problem.probe + damping * problem.probe,
        "critic/error": error(critic),
        "critic/gradient": reference.derivatives(error, critic),
    }


def check_networks(framework: str) -> None:
    """Outputs, gradients and both Fisher products, with borders inside sequences."""
    compute = {"torch": _of_torch, "jax": _of_jax}[framework]
    for kind in KINDS:
        problem, want = build(kind), expected_results(kind)
        got = compute(problem)
        for name in ("outputs", "values"):
            answer = got[name].reshape(want[name].shape)
            if problem.batch["action_mask"] is not None and name == "outputs":
                allowed = problem.samples("action_mask") > 0
                answer, correct = answer[allowed], want[name][allowed]
            else:
                correct = want[name]
            assert_parity("oracle/recurrent", answer, correct)
        for name in ("surrogate", "critic/error"):
            assert_parity("oracle/recurrent", got[name], np.float64(want[name]))
        for name in ("gradient", "critic/gradient"):
            assert_parity("oracle/recurrent", got[name], want[name])
        for route in ROUTES:
            assert_parity("oracle/recurrent", got[route], want["fisher"])


def _of_torch(problem: RecurrentProblem) -> Arrays:
    learner = agent("torch", problem)
    batch = learner._check_batch(problem.batch)
    policy = learner.backend._policy_function(batch)
    theta = torch.cat([p.detach().reshape(-1) for p in learner.policy.parameters()])
    old, before, gradient = torch_update.surrogate_and_gradient(policy, theta, batch)
    options = learner.config.step_options()
    fit = torch_fit.sequence_regression(learner.critic, batch, ORDERS, options)
    some = torch_fit.of_environments(batch, torch.as_tensor(CHOSEN).long())
    at = torch.cat([p.detach().reshape(-1) for p in learner.critic.parameters()])
    of_critic = torch.empty_like(at)
    error = torch_critic.loss_and_gradient(fit, at, of_critic)(some)
    arrays = {
        "outputs": old[0],
        "values": learner.critic.values(batch.obs),
        "surrogate": before.value,
        "gradient": gradient,
        "critic/error": error,
        "critic/gradient": of_critic,
    }
    for route in ROUTES:
        build_product = torch_fisher.FISHER_PRODUCTS[route]
        product = build_product(policy, theta, learner.config.cg_damping)
        arrays[route] = product(torch.from_numpy(problem.probe))
    return {name: array.detach().numpy() for name, array in arrays.items()}


def _of_jax(problem: RecurrentProblem) -> Arrays:
    learner = agent("jax", problem)
    batch = learner._check_batch(problem.batch)
    functions, damping = learner.backend.functions, learner.config.cg_damping
    theta, unravel = ravel_pytree(learner.policy)
    probe, offset = {}, 0
    for name, array in problem.weights("policy").items():
        piece = problem.probe[offset : offset + array.size]
        probe[name] = piece.reshape(array.shape)
        offset += array.size
    probe = ravel_pytree(jax_state.load_network(probe, ""))[0]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def compute(theta: Any, critic: Any, batch: Any, probe: Any) -> tuple[dict, dict]:
        policy = functions.policy_at(unravel, batch.obs, batch.action_mask)
        old, before, gradient = jax_update.surrogate_and_gradient(policy, theta, batch)
        orders = jax.numpy.asarray(ORDERS)
        fit = jax_fit.sequence_regression(
            functions.critic, batch, orders, learner.config.step_options()
        )
        some = jax_fit.of_environments(batch, jax.numpy.asarray(CHOSEN))
        error, of_critic = jax_critic.loss_and_gradient(fit, some)(critic)
        trees = {"gradient": unravel(gradient), "critic/gradient": of_critic}
        for route, build_product in jax_fisher.FISHER_PRODUCTS.items():
            trees[route] = unravel(build_product(policy, theta, damping)(probe))
        values = functions.critic(critic, batch.obs)[0]
        arrays = {"outputs": old[0], "values": values, "surrogate": before.value}
        return trees, arrays | {"critic/error": error}

    trees, arrays = compute(theta, learner.critic, batch, probe)
    for name, tree in trees.items():
        named = jax_state.network_arrays(tree, "")
        order = problem.weights("value" if name == "critic/gradient" else "policy")
        arrays[name] = np.concatenate([named[n].reshape(-1) for n in order])
    return {name: np.array(array) for name, array in arrays.items()}


def check_torch_cells() -> None:
    """The reference's cells are those of `torch.nn`."""
    for kind, module in (("gru", torch.nn.GRUCell), ("lstm", torch.nn.LSTMCell)):
        problem = build(kind)
        weights = problem.weights("policy")
        cell = module(recurrent_problems.OBS_DIM, recurrent_problems.SIZE).double()
        with torch.no_grad():
            for part, short in (("input", "ih"), ("hidden", "hh")):
                for field in ("weight", "bias"):
                    array = torch.from_numpy(weights[f"cell.{part}.{field}"])
                    getattr(cell, f"{field}_{short}").copy_(array)
            obs = torch.from_numpy(problem.batch["obs"][0])
            states = torch.from_numpy(problem.batch["memory"].policy)
            before = tuple(states.chunk(2, -1)) if kind == "lstm" else states
            after = cell(obs, before)
            got = torch.cat(after, -1) if kind == "lstm" else after
        want = [
            reference.CELLS[kind](weights, x, h)
            for x, h in zip(obs.numpy(), states.numpy(), strict=True)
        ]
        assert_parity("oracle/recurrent", got.numpy(), np.array(want))


def check_updates() -> None:
    """Two whole updates in float64: the backends' states and metrics are equal."""
    for kind in KINDS:
        problem = build(kind)
        first, second = (agent(framework, problem) for framework in ("torch", "jax"))
        for _ in range(2):
            ours, theirs = (a.update(problem.batch) for a in (first, second))
            assert ours["policy/line_search_accepted"] == 1.0
            for name, number in ours.items():
                assert_parity("recurrent/update", *map(np.float64, (
                    theirs[name], number)), 1e-3)  # fmt: skip
        left, right = first.get_state(), second.get_state()
        assert set(left) == set(right)
        for name in left:
            if not name.startswith("random."):
                got, want = np.float64(right[name]), np.float64(left[name])
                assert_parity("recurrent/update", got, want)
        moved = np.linalg.norm(left["value.cell.hidden.weight"] - problem.state[
            "value.cell.hidden.weight"])  # fmt: skip
        assert moved > 1e-4


def check_outsiders() -> None:
    """Entries that are no samples change nothing, in either backend."""
    problem = build("gru")
    valid = problem.batch["valid"]
    for framework in ("torch", "jax"):
        results = []
        for junk in (0.0, 7.0):
            changed = {
                name: np.where(valid, problem.batch[name], junk)
                for name in ("log_probs", "returns", "advantages")
            }
            learner = agent(framework, problem)
            learner.update({**problem.batch, **changed})
            results.append(learner.get_state())
        for name, array in results[0].items():
            np.testing.assert_array_equal(array, results[1][name], err_msg=name)


class Staircase(gymnasium.Env):
    """Observations (length, steps so far, 1 at the first), cut off after `length`."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (3,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths, self.episode = lengths, -1

    def _obs(self) -> np.ndarray:
        return stair(self.length, self.count)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        super().reset(seed=seed)
        self.episode += 1
        self.length = self.lengths[self.episode % len(self.lengths)]
        self.count = 0
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple:
        self.count += 1
        return self._obs(), 1.0, False, self.count >= self.length, {}


def stair(length: int, count: int) -> np.ndarray:
    return np.array([float(length), float(count), float(count == 0)])


def check_rollouts() -> None:
    """States carried between rollouts; values before and after each border."""
    problem = build("gru")
    learner = agent("torch", problem)
    lengths = ((3, 2, 4), (5, 1), (4,))
    makers = [functools.partial(Staircase, of_env) for of_env in lengths]
    env = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    collector = RolloutCollector(env)
    rollouts = [collector.collect(learner, steps) for steps in (4, 7)]
    critic, blank = problem.weights("value"), np.zeros((1, recurrent_problems.SIZE))

    def value(length: int, counts: int) -> float:
        """Outputs at observation number `counts` of an episode, the rest seen."""
        seen = np.array([[stair(length, count)] for count in range(counts + 1)])
        no_starts = np.zeros((counts + 1, 1), dtype=bool)
        return reference.forward("gru", critic, seen, no_starts, blank)[-1, 0, 0]

    for b, of_env in enumerate(lengths):
        steps = [(n, c) for n in of_env * 11 for c in range(n)][:11]
        for name, ahead in (("values", 0), ("next_values", 1)):
            want = np.array([value(n, c + ahead) for n, c in steps])
            got = np.concatenate([getattr(rollout, name)[:, b] for rollout in rollouts])
            assert_parity("oracle/recurrent", got, want)
        starts = np.concatenate([rollout.starts[:, b] for rollout in rollouts])
        np.testing.assert_array_equal(starts, [count == 0 for _, count in steps])
    # The second rollout's own states make its old policy that which acted.
    second = rollouts[1]
    batch = {
        "obs": second.obs, "actions": second.actions, "log_probs": second.log_probs,
        "returns": second.values, "advantages": 0.0 * second.values,
        "starts": second.starts, "memory": second.memory,
    }  # fmt: skip
    metrics = learner.update(batch)
    assert abs(metrics["policy/ratio_mean"] - 1.0) < 1e-12
    assert metrics["policy/ratio_std"] < 1e-12


# Checks of one backend.
CHECKS: dict[str, Callable[[str], None]] = {
    "recurrent networks and derivatives": check_networks,
}
# Checks of both together, or of the code that they share.
SHARED: dict[str, Callable[[], None]] = {
    "torch.nn's recurrent cells": check_torch_cells,
    "recurrent updates": check_updates,
    "entries of sequences that are no samples": check_outsiders,
    "recurrent rollouts": check_rollouts,
}
