"""The update on many devices, each of which has a shard of the samples.

It is `agent.update.pure_update` in a `shard_map` over the samples: what of it is a mean
of samples is summed over the devices (`devices/reduction.py`), all else each device
does alike. PyTorch has one process for each device, and no such file.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trpo.agent.sharding import Minibatches, Shards
from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch, Rates
from trpo_jax.agent.update import TRPOState, pure_update
from trpo_jax.devices import reduction
from trpo_jax.devices.reduction import AXIS, Shard


ALL, ALONG = PartitionSpec(), PartitionSpec(AXIS)


def mesh_of(devices: Sequence[Any], processes: int) -> Mesh:
    """A line of devices, those of the first process first.

    Args:
        devices: Of this process.
        processes: Of the run; each of them has as many devices, and uses all.

    Raises:
        ValueError: a process has another number of devices.
    """
    if processes > 1:
        everywhere = jax.devices(devices[0].platform)
        counts = {
            sum(device.process_index == process for device in everywhere)
            for process in range(processes)
        }
        if counts != {len(devices)}:
            raise ValueError(
                f"`devices`: expected all processes to use {len(devices)} each, all "
                f"that they have, got {sorted(counts)}."
            )
        devices = sorted(everywhere, key=lambda one: (one.process_index, one.id))
    return Mesh(np.array(devices), (AXIS,))


def place(
    mesh: Mesh, state: TRPOState, batch: Batch, shards: Shards, own: list[Minibatches]
) -> tuple[TRPOState, Batch, jax.Array, Minibatches]:
    """Arguments of `sharded_update`, on the devices of the mesh.

    Args:
        mesh: Of all devices.
        state: The same in each process.
        batch: This process's samples.
        shards: Which of them each of its devices has.
        own: Minibatches of each of its devices.

    Returns:
        State, batch and minibatches, and the weight of each sample.
    """
    ends = np.cumsum([len(rows) for rows in shards.rows])
    dtype = batch.returns.dtype

    def filled(rows: np.ndarray, values: Any) -> np.ndarray:
        """Rows of one device, and as many more as the longest shard has."""
        missing = shards.longest - len(rows)
        # Any samples do that are finite where they are used; of masks, all allowed.
        more = values[:1] if len(values) else np.ones((1, values.shape[1]), dtype)
        return np.concatenate([rows, np.repeat(more, missing, axis=0)])

    def along(array: jax.Array) -> jax.Array:
        values = np.asarray(array)
        return _sharded(
            mesh, [filled(rows, values) for rows in np.split(values, ends[:-1])]
        )

    weights = [
        np.where(np.arange(shards.longest) < len(rows), 1.0 / shards.total, 0.0)
        for rows in shards.rows
    ]
    columns = [one.astype(dtype)[:, None] for one in weights]
    indices = [part.indices[None] for part in own]
    of_minibatches = [part.weights[None].astype(dtype) for part in own]
    return (
        jax.tree.map(functools.partial(_replicated, mesh), state),
        jax.tree.map(along, batch),
        _sharded(mesh, columns),
        Minibatches(_sharded(mesh, indices), _sharded(mesh, of_minibatches)),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def sharded_update(
    functions: Any,
    config: TRPOConfig,
    mesh: Mesh,
    state: TRPOState,
    batch: Batch,
    weights: jax.Array,
    minibatches: Minibatches,
    rates: Rates,
) -> tuple[TRPOState, jax.Array]:
    """`compiled.pure_update` of all devices' samples.

    Args:
        functions: As `pure_update`'s.
        config: Hyperparameters.
        mesh: Of all devices.
        state: On each of them.
        batch: Along the mesh, shards of equal length.
        weights: [n, 1] of each sample: 1 / N, or 0 where it only fills up.
        minibatches: Along the mesh.
        rates: Of this update.
    """

    def of_shard(state: TRPOState, batch: Batch, weights: jax.Array, *rest: Any) -> Any:
        minibatches, rates = rest
        own = jax.tree.map(lambda array: array[0], minibatches)
        with reduction.sharded(Shard(weights)):
            return pure_update(functions, config, state, batch, own, rates)

    # Unchecked: the check would sum the gradients of what is the same on all devices
    # by itself, and again where `reduction.total` does.
    return jax.shard_map(
        of_shard,
        mesh=mesh,
        in_specs=(ALL, ALONG, ALONG, ALONG, ALL),
        out_specs=ALL,
        check_vma=False,
    )(state, batch, weights, minibatches, rates)


def own_copy(tree: Any) -> Any:
    """A tree of arrays that all devices have, on the first of this process."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def _local(mesh: Mesh) -> list[Any]:
    here = jax.process_index()
    return [one for one in mesh.devices.flat if one.process_index == here]


def _sharded(mesh: Mesh, parts: list[np.ndarray]) -> jax.Array:
    """An array of which each device of this process has a part."""
    shape = (mesh.size * len(parts[0]), *parts[0].shape[1:])
    placed = [jax.device_put(*each) for each in zip(parts, _local(mesh), strict=True)]
    sharding = NamedSharding(mesh, ALONG)
    return jax.make_array_from_single_device_arrays(shape, sharding, placed)


def _replicated(mesh: Mesh, array: Any) -> jax.Array:
    """An array that each device has whole."""
    placed = [jax.device_put(array, device) for device in _local(mesh)]
    sharding = NamedSharding(mesh, ALL)
    return jax.make_array_from_single_device_arrays(array.shape, sharding, placed)
