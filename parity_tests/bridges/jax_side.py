"""Teacher-forced stages by the JAX backend, compiled into one function."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from parity_tests.common import process_setup
from parity_tests.common.canonical import Arrays, flatten, unflatten
from parity_tests.problems.cases import Case
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Fed, Teacher
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, thinned
from trpo_jax import TRPOAgent as TRPOAgent
from trpo_jax.agent import state
from trpo_jax.agent.update import Functions, TRPOState
from trpo_jax.critic import fit as critic_fit
from trpo_jax.devices.device import matmul_precision as precision_of, resolve_device
from trpo_jax.networks.feedforward import critic_function, from_network, policy_function
from trpo_jax.policy_step import fisher, objective, step as policy_step
from trpo_jax.solvers.conjugate_gradient import conjugate_gradient
from trpo_jax.solvers.line_search import LINE_SEARCHES


# Fields of the configuration on which the policy's stages do not depend.
CRITIC_OPTIONS = tuple(
    field.name
    for field in dataclasses.fields(TRPOConfig)
    if field.name.startswith("value_")
)


def stages(
    problem: Problem, teacher: Teacher, dtype: str, device: str, matmul_precision: str
) -> tuple[Arrays, dict[str, int]]:
    """Every teacher-forced stage, and the end-to-end solution and step."""
    case, where = problem.case, resolve_device(device)

    def put(array: np.ndarray) -> jax.Array:
        return jax.device_put(np.asarray(array, dtype=dtype), where)

    inputs = {
        "policy": jax.tree.map(put, state.load_network(problem.state, "policy.")),
        "critic": jax.tree.map(put, state.load_network(problem.state, "value.")),
        "batch": Batch(**{n: put(array) for n, array in problem.batch.items()}),
        "teacher": jax.tree.map(put, teacher),
    }
    to_jax_order = functools.partial(_jax_order, case, put)
    fed = (problem.probe, teacher.b, teacher.full_step)
    inputs["fed"] = Fed(*map(to_jax_order, fed))
    sizes = (case.obs_dim, case.layers, case.head, case.architecture)
    # Regimes of equal sizes and configuration share one compilation.
    options = {name: getattr(TRPOConfig, name) for name in CRITIC_OPTIONS}
    config = dataclasses.replace(problem.config, **options)
    compiled = _compiled(_of_policy, 4, device)
    trees, vectors, scalars = compiled(
        sizes, config, case.updates, matmul_precision, inputs
    )
    compiled = _compiled(_of_critic, 3, device)
    of_critic = compiled(sizes, problem.config, matmul_precision, inputs)
    trees, vectors = trees | of_critic[0], vectors | of_critic[1]
    for leaf in jax.tree.leaves((trees, vectors)):
        assert leaf.devices() == {where}, f"an array is on {leaf.devices()}"
    values = {name: np.array(array) for name, array in vectors.items()}
    for name, tree in trees.items():
        values[name] = flatten(state.network_arrays(tree, "x."), "x.")
    return values, {name: int(number) for name, number in scalars.items()}


def make_linear(agent: TRPOAgent, arrays: Arrays) -> None:
    """Give an agent networks without hidden layers."""
    agent.backend.functions = Functions(
        policy_function(agent.obs_dim, (), agent.head),
        critic_function(agent.obs_dim, ()),
        agent.head,
    )
    critic = state.load_network(arrays, "value.")
    agent.backend.state = jax.device_put(
        TRPOState(
            state.load_network(arrays, "policy."),
            critic,
            agent._build_value_optimizer(critic).init(critic),
        )
    )


def jax_order(case: Case, vector: np.ndarray) -> np.ndarray:
    """A policy's canonical flat vector in JAX's flat order."""
    named = unflatten(
        vector, case.policy_sizes, "policy.", case.free_log_std, case.architecture
    )
    return np.array(ravel_pytree(state.load_network(named, "policy."))[0])


def _jax_order(case: Case, put: Any, vector: np.ndarray) -> jax.Array:
    return put(jax_order(case, vector))


@functools.cache
def _compiled(function: Callable, statics: int, device: str) -> Callable:
    """The compiled function; on a CPU compiled quickly, since it runs a few times."""
    options: Any = process_setup.QUICK if device == "cpu" else None
    return jax.jit(
        function, static_argnums=tuple(range(statics)), compiler_options=options
    )


def _of_policy(
    sizes: tuple, config: Any, updates: bool, matmul_precision: str, inputs: dict
) -> tuple[dict, dict, dict]:
    batch, teacher = inputs["batch"], inputs["teacher"]
    theta, unravel = ravel_pytree(inputs["policy"])

    def policy_of(samples: Batch) -> Any:
        function = policy_function(*sizes)
        return lambda theta: function(unravel(theta), samples.obs, samples.action_mask)

    policy = policy_of(batch)
    fisher_policy = policy_of(thinned(batch, config.fisher_every))
    trees: dict = {}
    decisions: dict = {}
    with precision_of(matmul_precision):
        at: Any = policy(theta)
        old, new = (
            from_network(
                sizes[2], output, None if free is None else free[0], batch.action_mask
            )
            for output, free in (teacher[:2], teacher[2:4])
        )
        vectors = {**at._asdict(), **of_distributions(old, new, batch)}
        if updates:
            given = (policy, theta, batch)
            flats, solved, decisions = of_solvers(
                *given, inputs["fed"], config, fisher_policy
            )
            settings = (config.step_options(), config.step_numbers())
            step = policy_step.policy_step(*given, *settings, fisher_policy)
            flats["update/cg_solution"] = step.cg_solution
            flats["update/full_step"] = step.full_step
            vectors |= solved
            trees |= {name: unravel(flat) for name, flat in flats.items()}
    return trees, vectors, decisions


def of_distributions(old: Any, new: Any, batch: Batch) -> dict[str, jax.Array]:
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


def _of_critic(
    sizes: tuple, config: TRPOConfig, matmul_precision: str, inputs: dict
) -> tuple[dict, dict]:
    critic, at = critic_function(sizes[0], sizes[1], sizes[3]), inputs["critic"]
    batch, orders = inputs["batch"], jnp.zeros((0, 0), int)
    with precision_of(matmul_precision):
        options = config.step_options()
        fit = critic_fit.sample_regression(critic, batch, orders, options)
        samples = critic_fit.Samples(batch.obs, batch.returns)
        _, gradient = critic_fit.loss_and_gradient(fit, samples)(at)
        clipped = critic_fit.clip_by_norm(gradient, config.max_grad_norm)
        values = critic(at, batch.obs)
    trees = {"critic/gradient": gradient, "critic/clipped_gradient": clipped}
    return trees, {"value": values}


def of_solvers(
    policy: fisher.PolicyFunction,
    theta: jax.Array,
    batch: Batch,
    fed: Fed,
    config: Any,
    fisher_policy: fisher.PolicyFunction | None = None,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]]:
    """Gradient, Fisher products, and conjugate gradient and line search at `fed`.

    Returns:
        Vectors in the order of `theta`, other numbers, and decisions.
    """
    chosen_objective = objective.objective_of(
        config.step_options(), config.step_numbers()
    )
    fisher_policy = fisher_policy or policy
    old, before, gradient = policy_step.surrogate_and_gradient(
        policy, theta, batch, chosen_objective
    )
    flats = {"gradient": gradient}
    for route, build in fisher.FISHER_PRODUCTS.items():
        product = build(fisher_policy, theta, config.cg_damping)
        flats[f"fisher/{route}"] = product(fed.probe)
        if route == config.fisher_product:
            chosen = product
    # Here all derivatives are automatic; PyTorch has others beside those.
    flats["fisher/automatic"] = flats["fisher/gauss_newton"]
    cg = conjugate_gradient(chosen, fed.b, config.cg_iters, config.cg_residual_tol)
    flats["cg/solution"] = cg.x

    def evaluate(candidate: jax.Array) -> tuple[jax.Array, jax.Array]:
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
    flats["line_search/theta"] = search.theta
    solved = {
        "line_search/improvement": search.improvement,
        "line_search/kl": search.kl,
    }
    index = jnp.where(search.accepted, search.num_candidates - 1, -1)
    return flats, solved, {"cg/iterations": cg.num_steps, "line_search/index": index}
