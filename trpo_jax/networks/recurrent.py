"""Recurrent actor and critic: a cell, then a multilayer perceptron.

As in `networks/feedforward.py`, modules leave Flax NNX at `as_function`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from trpo.data.batch import Sequences
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import CELLS
from trpo_jax.distributions import Distribution
from trpo_jax.networks import feedforward, recurrent_cells as cells
from trpo_jax.networks.feedforward import (
    Layer,
    Parameters,
    as_function,
    from_network,
    kernels_and_biases,
)
from trpo_jax.networks.recurrent_cells import Cell


class Weights(NamedTuple):
    """Weights of a recurrent network; `log_std` is None where it has none."""

    log_std: jax.Array | None
    cell: Cell
    layers: list[Layer]


def forward(
    kind: str,
    weights: Weights,
    inputs: Float[jax.Array, "t b in_"],
    starts: Float[jax.Array, "t b 1"],
    state: Float[jax.Array, "b states"],
    rows: jax.Array | None = None,
) -> tuple[Float[jax.Array, "n out"], Float[jax.Array, "b states"]]:
    """The network's outputs at all T * B entries, or at `rows`, and the last state.

    Args:
        kind: Of the cell.
        weights: Of the network.
        inputs: Observations, in their order.
        starts: 1 where the state is set to zeros before the step, else 0.
        state: Before the first step.
        rows: [n] numbers t * B + b; None for all.
    """
    outputs, state = cells.unroll(kind, weights.cell, inputs, starts, state)
    outputs = outputs.reshape(-1, outputs.shape[-1])
    if rows is not None:
        outputs = outputs[rows]
    return feedforward.forward(weights.layers, outputs)[-1], state


class RecurrentCell(nnx.Module):
    """Parameters of a cell.

    Args:
        kind: A name in `trpo.spaces.architecture.CELLS`.
        inputs: Entries of its input.
        size: Units.
    """

    input: nnx.Linear
    hidden: nnx.Linear

    def __init__(self, kind: str, inputs: int, size: int) -> None:
        # The weights are overwritten by `trpo.spaces.initialization`'s.
        rngs, gates = nnx.Rngs(0), CELLS[kind].gates * size
        self.input = nnx.Linear(inputs, gates, rngs=rngs)
        self.hidden = nnx.Linear(size, gates, rngs=rngs)


class RecurrentPolicy(nnx.Module):
    """Sequences of observations -> distributions over actions.

    Args:
        obs_dim: Entries of an observation.
        kind: Of the cell.
        size: Units of the cell.
        layer_sizes: Units of the hidden layers after it.
        head: The distribution and its sizes; some have a free log_std.
    """

    head: Head
    kind: str
    cell: RecurrentCell
    layers: nnx.List[Any]
    log_std: nnx.Param[Any]

    def __init__(
        self, obs_dim: int, kind: str, size: int, layer_sizes: Sequence[int], head: Head
    ) -> None:
        self.head, self.kind = head, kind
        if head.family.free_log_std:
            self.log_std = nnx.Param(jnp.zeros(head.reals))
        self.cell = RecurrentCell(kind, obs_dim, size)
        self.layers = _linear_layers((size, *layer_sizes, head.output_dim))

    def __call__(
        self, sequences: Sequences, mask: jax.Array | None = None
    ) -> tuple[Distribution, jax.Array]:
        """The distribution at each sample of the sequences, and the last state."""
        free = self.log_std[...] if self.head.family.free_log_std else None
        weights = _weights(free, self.cell, self.layers)
        outputs, state = forward(
            self.kind,
            weights,
            inputs=sequences.obs,
            starts=sequences.starts,
            state=sequences.memory.policy,
            rows=sequences.rows,
        )
        return from_network(self.head, outputs, free, mask), state


class RecurrentCritic(nnx.Module):
    """Sequences of observations -> values.

    Args:
        obs_dim: Entries of an observation.
        kind: Of the cell.
        size: Units of the cell.
        layer_sizes: Units of the hidden layers after it.
    """

    cell: RecurrentCell
    layers: nnx.List[Any]

    def __init__(
        self, obs_dim: int, kind: str, size: int, layer_sizes: Sequence[int]
    ) -> None:
        self.kind = kind
        self.cell = RecurrentCell(kind, obs_dim, size)
        self.layers = _linear_layers((size, *layer_sizes, 1))

    def __call__(self, sequences: Sequences) -> tuple[jax.Array, jax.Array]:
        """The value [T, B, 1] of every observation, and the last state."""
        weights = _weights(None, self.cell, self.layers)
        values, state = forward(
            self.kind,
            weights,
            inputs=sequences.obs,
            starts=sequences.starts,
            state=sequences.memory.critic,
        )
        return values.reshape(*sequences.obs.shape[:2], 1), state


def _linear_layers(sizes: Sequence[int]) -> nnx.List:
    rngs, pairs = nnx.Rngs(0), itertools.pairwise(sizes)
    return nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])


def _weights(
    log_std: jax.Array | None, cell: RecurrentCell, layers: nnx.List
) -> Weights:
    parts: tuple[Any, ...] = (cell.input, cell.hidden)
    first, second = (Layer(p.kernel[...], p.bias[...]) for p in parts)
    return Weights(log_std, Cell(first, second), kernels_and_biases(layers))


# Cached, so that agents of equal sizes share one function and one compilation.


@functools.lru_cache(maxsize=256)
def recurrent_policy_function(
    obs_dim: int, kind: str, size: int, layer_sizes: tuple[int, ...], head: Head
) -> Callable[..., tuple[Distribution, jax.Array]]:
    """A policy of these sizes as a pure function of parameters, sequences and mask."""
    return as_function(
        nnx.eval_shape(lambda: RecurrentPolicy(obs_dim, kind, size, layer_sizes, head))
    )


@functools.lru_cache(maxsize=256)
def recurrent_critic_function(
    obs_dim: int, kind: str, size: int, layer_sizes: tuple[int, ...]
) -> Callable[[Parameters, Sequences], tuple[jax.Array, jax.Array]]:
    """A critic of these sizes as a pure function of parameters and sequences."""
    return as_function(
        nnx.eval_shape(lambda: RecurrentCritic(obs_dim, kind, size, layer_sizes))
    )
