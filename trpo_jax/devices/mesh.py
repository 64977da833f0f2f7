"""A batch on many devices: one array, of which each device has some rows.

The update is the same jitted function as on one device; XLA divides it, and adds up
what each device has of a sum (Xu et al. 2021, "GSPMD"). PyTorch sums by itself, in
`devices/reduction.py`, and has no such file.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trpo.agent.sharding import Sharding, Shards
from trpo.data.batch import Sequences
from trpo.data.hidden_state import Memory
from trpo_jax.devices.means import on_ladder, with_last


AXIS = "data"
"""The mesh's only axis, along which the samples lie."""


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
    mesh: Mesh,
    sharding: Sharding,
    shards: Shards,
    learned: Any,
    batch: Any,
    orders: np.ndarray,
    every: int = 1,
) -> tuple[Any, Any, np.ndarray]:
    """Arguments of an update, on the devices of the mesh.

    Each process's rows are filled up, by rows of weight 0, until each device has as
    many: a size of the ladder (`devices/means.py`) with room for the largest share.

    Args:
        mesh: Of all devices.
        sharding: Of the agent.
        shards: Which samples this process has; of a recurrent agent, environments.
        learned: Weights and optimisers, the same in each process.
        batch: This process's part.
        orders: [epochs, total] of all processes' samples; of a recurrent agent, of
            their environments.
        every: Of the samples, counted over all processes, each so manieth has a row
            whose number is a multiple of it too.

    Returns:
        `learned` on each device; the batch along the mesh; and the orders, of its rows.
    """
    devices = mesh.local_mesh.size
    samples = len(batch.actions)
    rows = room = shards.room(devices, every)
    if isinstance(batch.obs, Sequences):
        # The samples of an environment, of which some have more.
        most = -(-int(sharding.ranks.largest(samples)) // devices)
        rows = min(devices * on_ladder(most), len(batch.obs.obs) * room)
        slots = np.arange(samples)
    else:
        rows = room = devices * every * on_ladder(room // (devices * every))
        slots = shards.slots(shards.rank, every)
    along = functools.partial(_along, mesh, slots=slots, rows=rows)
    fields = {}
    for name, field in batch._asdict().items():
        if field is not None and not isinstance(field, Sequences) and field.ndim < 3:
            fields[name] = along(field) if field.ndim else np.array(field)
    fields["weights"] = along(np.ones((samples, 1), batch.actions.dtype), zeros=True)
    positions = shards.positions(room, every)
    orders = positions[orders]
    if isinstance(batch.obs, Sequences):
        own = functools.partial(
            _along, mesh, slots=shards.slots(shards.rank), rows=room
        )
        numbers = along(_numbers(batch.obs, room, sharding))
        fields["returns"] = own(batch.returns, axis=1)
        fields["obs"] = _placed(batch.obs, own, numbers)
    else:
        spare = np.setdiff1d(np.arange(sharding.ranks.size * room), positions)
        orders = with_last(orders, spare[: on_ladder(shards.total) - shards.total])
    learned = jax.tree.map(functools.partial(_replicated, mesh), learned)
    return learned, batch._replace(**fields), orders


def _placed(
    sequences: Sequences, own: Callable[..., jax.Array], rows: jax.Array
) -> Sequences:
    """Sequences along the mesh, `own` as `_along` of this process's environments."""
    return Sequences(
        own(sequences.obs, axis=1),
        own(sequences.starts, axis=1),
        own(sequences.valid, axis=1, zeros=True),
        rows,
        Memory(*map(own, sequences.memory)),
    )


def _along(
    mesh: Mesh,
    array: Any,
    slots: np.ndarray,
    rows: int,
    axis: int = 0,
    zeros: bool = False,
) -> jax.Array:
    """This process's part of an array along the mesh.

    Args:
        mesh: Of all devices.
        array: Of its samples.
        slots: Row of each sample in its part.
        rows: Of its part. What is between and after them is as the first sample, which
            is as finite as the others; ones where there is none.
        axis: Of the samples.
        zeros: Fill up with zeros instead.
    """
    values = np.asarray(array)
    first = values.take([0], axis) if values.shape[axis] else _one_row(values, axis)
    filled = (np.zeros_like(first) if zeros else first).repeat(rows, axis)
    filled[(slice(None),) * axis + (slots,)] = values
    spec = PartitionSpec(*(None,) * axis, AXIS)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), filled)


def _one_row(values: np.ndarray, axis: int) -> np.ndarray:
    shape = [1 if i == axis else size for i, size in enumerate(values.shape)]
    return np.ones(shape, values.dtype)


def _numbers(sequences: Sequences, width: int, sharding: Sharding) -> np.ndarray:
    """`Sequences.rows` of this process's samples, among the filled-up environments."""
    steps, envs, _ = sequences.obs.shape
    rows = sequences.rows
    rows = np.arange(steps * envs) if rows is None else np.asarray(rows)
    step, environment = np.divmod(rows, envs)
    ranks = sharding.ranks
    number = (step * ranks.size + ranks.rank) * width + environment
    return number.astype(np.int32)


def _replicated(mesh: Mesh, array: jax.Array) -> jax.Array:
    """An array that each device has whole."""
    placed = [jax.device_put(array, one) for one in mesh.local_mesh.devices.flat]
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.make_array_from_single_device_arrays(array.shape, sharding, placed)


@functools.lru_cache(maxsize=64)
def on_mesh(update: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """A jitted update whose results each device has whole."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(update, static_argnums=(0, 1), out_shardings=whole)


def own_copy(tree: Any) -> Any:
    """A tree of arrays that all devices have, on the first of this process."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def constrained_to(mesh: Mesh, tree: Any, *, divided: bool) -> Any:
    """Arrays [n, …] whole on each device, or divided over them where they are even.

    What XLA would choose by itself is as right, but may be slower.
    """

    def of(array: jax.Array) -> jax.Array:
        even = len(array) % mesh.size == 0
        spec = PartitionSpec(AXIS) if divided and even else PartitionSpec()
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))

    return jax.tree.map(of, tree)
