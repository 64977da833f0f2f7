"""Canonical NumPy state <-> trees of arrays.

A network's tree is {"layers": {i: {"kernel", "bias"}}, "norms": {i: {"scale", "bias"}},
…}. Its kernels are [in, out], canonical weights [out, in]; those of a convolution are
[rows, columns, in, out] and [out, in, rows, columns]. A scale is a weight too.

Networks of the user's own are named by the same rule where PyTorch has such a layer
(`canonical_names`), so that either framework's module of the same parts takes them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

from trpo_jax.devices.device import to_array
from trpo_jax.networks.feedforward import Parameters


WEIGHTS = ("kernel", "scale")
# Axes of a weight, by their number, in the canonical order.
TO_CANONICAL: dict[int, tuple[int, ...]] = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


# Layer of Flax -> its parameter that PyTorch calls "weight".
WEIGHT_OF: dict[type[Any], str] = {
    nnx.Linear: "kernel", nnx.Conv: "kernel", nnx.LayerNorm: "scale",
    nnx.Embed: "embedding",
}  # fmt: skip


class Renaming(NamedTuple):
    """A parameter of the user's network under its canonical name.

    Attributes:
        name: "one.weight" of Flax's "one.kernel".
        axes: of the canonical array, by their number in Flax's; () for all as they are.
    """

    name: str
    axes: tuple[int, ...]


def canonical_names(network: nnx.Module) -> dict[str, Renaming]:
    """Flax's name of each parameter that PyTorch names or lays out otherwise.

    The weights of `WEIGHT_OF` are called "weight", kernels [..., in, out] become [out,
    in, ...], and the layers of a Sequential are known by their number alone. All other
    parameters keep name and layout.
    """
    modules = dict(nnx.iter_modules(network))
    renamings = {}
    for path, variable in nnx.to_flat_state(nnx.state(network)):
        *parts, last = (
            str(key)
            for at, key in enumerate(path)
            if not (key == "layers" and type(modules.get(path[:at])) is nnx.Sequential)
        )
        owner, axes = modules.get(path[:-1]), ()
        if any(
            isinstance(owner, kind) and last == WEIGHT_OF[kind] for kind in WEIGHT_OF
        ):
            if last == "kernel":
                rank = variable[...].ndim
                axes = (rank - 1, rank - 2, *range(rank - 2))
            last = "weight"
        renaming = Renaming(".".join([*parts, last]), axes)
        if (name := ".".join(map(str, path))) != renaming.name:
            renamings[name] = renaming
    return renamings


def renamed(
    arrays: Mapping[str, Any],
    of_policy: dict[str, Renaming],
    of_critic: dict[str, Renaming],
) -> dict[str, Any]:
    """Arrays of a state with those of the user's networks under other names."""
    result = {}
    for name, array in arrays.items():
        begin, network, rest = str(name).partition("network.")
        table = of_policy if begin == "policy." else of_critic
        if network and (renaming := table.get(rest)) is not None:
            axes = renaming.axes
            if axes and len(axes) == np.ndim(array):
                array = np.transpose(array, axes).copy()
            name = f"{begin}network.{renaming.name}"
        result[name] = array
    return result


def inverse(renamings: dict[str, Renaming]) -> dict[str, Renaming]:
    """From canonical names to Flax's."""
    return {
        name: Renaming(flax, tuple(np.argsort(axes).tolist()))
        for flax, (name, axes) in renamings.items()
    }


def flat_params(module: Parameters) -> jax.Array:
    """A tree's arrays as one vector [p], in the tree's own order."""
    return ravel_pytree(module)[0]


def set_flat_params(module: Parameters, flat_params: jax.Array) -> Parameters:
    """A tree like `module` with its arrays taken from a vector [p]."""
    return ravel_pytree(module)[1](flat_params)


def network_arrays(tree: Parameters, prefix: str) -> dict[str, np.ndarray]:
    """Copies of a network-shaped tree's arrays under `prefix`."""
    arrays = {}
    # As PyTorch orders them: a module's own before its parts', weight before bias.
    order = sorted(tree.items(), key=lambda i: (isinstance(i[1], dict), i[0] == "bias"))
    for key, branch in order:
        if isinstance(branch, dict):
            arrays |= network_arrays(branch, f"{prefix}{key}.")
        else:
            array = to_array(branch)
            if not _is_own(prefix) and key in WEIGHTS:
                array = array.transpose(TO_CANONICAL[array.ndim]).copy()
                key = "weight"
            arrays[f"{prefix}{key}"] = array
    return arrays


def load_network(arrays: Mapping[str, np.ndarray], prefix: str) -> Parameters:
    """The network-shaped tree, of NumPy arrays, that `network_arrays` named."""
    tree: Parameters = {}
    for name in (name for name in arrays if name.startswith(prefix)):
        *path, last = name.removeprefix(prefix).split(".")
        branch, array = tree, arrays[name]
        for key in path:
            branch = branch.setdefault(int(key) if key.isdigit() else key, {})
        if last == "weight" and not _is_own(name):
            last = "scale" if array.ndim == 1 else "kernel"
            array = array.transpose(np.argsort(TO_CANONICAL[array.ndim])).copy()
        branch[last] = array
    return tree


def _is_own(name: str) -> bool:
    """Whether a name is in the user's own network, where nothing is renamed."""
    return "network" in name.split(".")


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
