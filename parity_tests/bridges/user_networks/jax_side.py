"""An update of JAX's agent with the user's network in it, compiled as a whole."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parity_kit import references
from parity_kit.jax_side import Side, named_leaves, with_arrays
from parity_kit.weights import to_jax
from parity_tests.bridges.jax_side import of_distributions, of_solvers
from parity_tests.bridges.user_networks.pair import METRICS, agent_options
from parity_tests.reference.update import Fed
from trpo.common.random_streams import Purpose, RandomStream, minibatch_orders
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo.data.report import UpdateReport
from trpo_jax import TRPOAgent
from trpo_jax.agent.update import TRPOState, pure_update


class Flat:
    """A policy's tree of arrays as one vector in PyTorch's order and layout.

    Args:
        like: The tree.
        weights: PyTorch's, by name.
        names: Theirs, in PyTorch's order.
        mapping: PyTorch's name -> JAX's, see `parity_kit.weights`.
    """

    def __init__(self, like: Any, weights: dict, names: list, mapping: dict) -> None:
        self.like, start, places = like, 0, {}
        for name in names:
            numbers = np.arange(start, start + weights[name].size)
            places[name] = numbers.reshape(weights[name].shape)
            start += weights[name].size
        self.size = start
        network = {n.removeprefix("network."): a for n, a in places.items()}
        moved = to_jax(network, mapping)
        self.places = {f"network.{name}": array for name, array in moved.items()}
        if "log_std" in places:
            self.places["log_std"] = places["log_std"]

    def tree(self, theta: jax.Array) -> Any:
        """The tree with a vector's numbers."""
        arrays: Any = {name: theta[places] for name, places in self.places.items()}
        return with_arrays(self.like, arrays, theta.dtype)

    def vector(self, tree: Any) -> jax.Array:
        """A tree's numbers; 0 for what JAX has no place for."""
        leaves = named_leaves(tree)
        vector = jnp.zeros(self.size, leaves[next(iter(self.places))].dtype)
        for name, places in self.places.items():
            vector = vector.at[places].set(leaves[name])
        return vector


class Given(NamedTuple):
    """What an update has of its agent, and of the pair."""

    functions: Any
    state: TRPOState
    config: TRPOConfig
    stream: RandomStream
    numbers: Any
    names: list[str]
    mapping: dict[str, Any]


@functools.lru_cache
def _compiled(settings: str, dtype: str, device: str) -> Any:
    # As with imports: a thread of its own is outside of a trace.
    with ThreadPoolExecutor(1) as pool:
        given = pool.submit(_given, settings, dtype, device).result()
    return jax.jit(functools.partial(_update, given))


def _given(settings: str, dtype: str, device: str) -> Given:
    found = json.loads(settings)
    subject = references.resolve(found["jax"])
    network = Side(subject, None, None, "float32", "cpu").example()
    agent = TRPOAgent(
        **agent_options(found), device=device, dtype=dtype, policy_network=network
    )
    config, seed = agent.config, RandomStream(agent.seed, Purpose.MINIBATCH)
    return Given(
        agent.backend.functions, agent.backend.state, config, seed,
        agent.backend.in_dtype_of(config.step_numbers()),
        found["names"], found["mapping"],
    )  # fmt: skip


def update(settings: dict[str, Any], weights: dict, *inputs: jax.Array) -> dict:
    """The grid's stages, and a whole update; see PyTorch's side."""
    device = jax.config.jax_default_device or jax.devices()[0]  # pyright: ignore
    name = {"gpu": "cuda"}.get(device.platform, device.platform)
    dtype = str(inputs[0].dtype)
    return _compiled(json.dumps(settings), dtype, name)(weights, *inputs)


def _update(
    given: Given,
    weights: dict[str, jax.Array],
    obs: jax.Array,
    actions: jax.Array,
    advantages: jax.Array,
    returns: jax.Array,
    staleness: jax.Array,
    *fed: jax.Array,
) -> dict[str, Any]:
    functions, state, config = given[:3]
    flat = Flat(state.policy, weights, given.names, given.mapping)
    theta = jnp.concatenate([weights[name].reshape(-1) for name in given.names])

    def policy(theta: jax.Array) -> Any:
        return functions.policy(flat.tree(theta), obs, None)

    old, new = policy(theta), policy(theta + fed[2])
    log_probs = old.log_prob(actions) + staleness
    batch = Batch(obs, actions, log_probs, returns, advantages)
    flats, solved, decisions = of_solvers(policy, theta, batch, Fed(*fed), config)
    values = {**old._asdict(), **of_distributions(old, new, batch), **flats, **solved}
    orders = minibatch_orders(
        given.stream.at(0), epochs=config.value_epochs, size=len(obs)
    ).copy()
    learned, report = pure_update(
        functions, config.step_options(),
        TRPOState(flat.tree(theta), state.critic, state.optimizer), batch, orders,
        given.numbers,
    )  # fmt: skip
    numbers = UpdateReport(*report)
    return {
        **values,
        **decisions,
        **{f"update/{name}": getattr(numbers, name) for name in METRICS},
        "update/values": functions.critic(learned.critic, obs),
        "update/policy": flat.vector(learned.policy),
        "update/cg_iterations": numbers.cg_iterations.astype(int),
        "update/status": numbers.status.astype(int),
        "update/step_in_thousandths": jnp.round(1000 * numbers.line_search_frac).astype(
            int
        ),
    }
