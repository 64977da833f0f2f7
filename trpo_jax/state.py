"""Canonical NumPy state <-> trees of arrays.

A network's tree {"layers": {i: {"kernel", "bias"}}, …} holds kernels [in, out]; the
canonical weight is their transpose [out, in].
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from trpo_jax.networks import Parameters


def network_arrays(tree: Parameters, prefix: str) -> dict[str, np.ndarray]:
    """Copies of a network-shaped tree's arrays under `prefix`."""
    arrays = {}
    if "log_std" in tree:
        arrays[f"{prefix}log_std"] = np.array(tree["log_std"])
    for i, layer in tree["layers"].items():
        arrays[f"{prefix}layers.{i}.weight"] = np.array(layer["kernel"]).T.copy()
        arrays[f"{prefix}layers.{i}.bias"] = np.array(layer["bias"])
    return arrays


def load_network(arrays: Mapping[str, np.ndarray], prefix: str) -> Parameters:
    """The network-shaped tree, of NumPy arrays, that `network_arrays` named."""
    names = [name for name in arrays if name.startswith(f"{prefix}layers.")]
    count = 1 + max(int(name.removeprefix(prefix).split(".")[1]) for name in names)
    layers = {
        i: {
            "kernel": arrays[f"{prefix}layers.{i}.weight"].T.copy(),
            "bias": arrays[f"{prefix}layers.{i}.bias"],
        }
        for i in range(count)
    }
    if f"{prefix}log_std" in arrays:
        return {"layers": layers, "log_std": arrays[f"{prefix}log_std"]}
    return {"layers": layers}


def optimizer_arrays(optimizer_state: Any) -> dict[str, np.ndarray]:
    """Copies of an optimiser's state."""
    inner = optimizer_state[0]
    if isinstance(inner, optax.ScaleByAdamState):
        return {
            "value_optimizer.step": np.array(inner.count, dtype=np.int64),
            **network_arrays(inner.mu, "value_optimizer.first_moment."),
            **network_arrays(inner.nu, "value_optimizer.second_moment."),
        }
    if isinstance(inner, optax.TraceState):
        return network_arrays(inner.trace, "value_optimizer.momentum.")
    return {}


def load_optimizer(template: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The state, shaped like `template`, that `optimizer_arrays` named."""
    inner, *rest = template
    if isinstance(inner, optax.ScaleByAdamState):
        inner = optax.ScaleByAdamState(
            count=arrays["value_optimizer.step"].astype(np.int32),
            mu=load_network(arrays, "value_optimizer.first_moment."),
            nu=load_network(arrays, "value_optimizer.second_moment."),
        )
    elif isinstance(inner, optax.TraceState):
        inner = optax.TraceState(load_network(arrays, "value_optimizer.momentum."))
    return jax.tree.unflatten(
        jax.tree.structure(template), jax.tree.leaves((inner, *rest))
    )
