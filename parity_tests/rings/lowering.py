"""The JAX update lowered for CUDA, which needs no GPU."""

import functools

import jax
import numpy as np
from jax import export

from parity_tests import bridges
from parity_tests.problems import cases
from trpo.common.random_streams import minibatch_orders
from trpo.data.batch import Batch
from trpo_jax.agent import update as compiled


def arguments(dtype: str = "float32") -> tuple:
    """The compiled update's arguments, as an agent passes them."""
    problem = cases.build("trained")
    agent = bridges.make_agent("jax", problem, dtype)
    batch = Batch(**{name: a.astype(dtype) for name, a in problem.batch.items()})
    rng = np.random.default_rng(0)
    orders = minibatch_orders(rng, epochs=agent.config.value_epochs, size=33)
    numbers = agent.backend.in_dtype_of(agent.config.step_numbers())
    return (
        agent.backend.functions,
        agent.config.step_options(),
        agent.backend.state,
        batch,
        orders,
        numbers,
    )


@functools.lru_cache
def lower_for_cuda() -> export.Exported:
    """The float32 update, lowered for the platform `cuda`."""
    functions, options, *arrays = arguments()
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        tuple(arrays),
    )
    update = jax.jit(compiled.update, static_argnums=(0, 1))
    # Without the suite's own setting, what the backend itself asks for remains.
    with jax.default_matmul_precision("default"):
        return export.export(update, platforms=["cuda"])(functions, options, *shapes)


def check_full_precision() -> None:
    """Every product asks for full float32, which a CPU computes without being asked."""
    products = [
        line
        for line in lower_for_cuda().mlir_module().splitlines()
        if "stablehlo.dot_general" in line
    ]
    assert len(products) > 20
    full = [line for line in products if "precision = [HIGHEST, HIGHEST]" in line]
    assert len(full) == len(products), f"{len(full)} of {len(products)} products do"
