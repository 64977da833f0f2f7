"""Recurrent cells, unrolled over the steps of sequences by one `lax.scan`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trpo.spaces.architecture import GRU, LSTM
from trpo_jax.networks.feedforward import Layer


class Cell(NamedTuple):
    """Weights of a cell: of its input and of its hidden state, gate by gate."""

    input: Layer
    hidden: Layer


def gru(
    gates: Float[jax.Array, "b gates"],
    state: Float[jax.Array, "b states"],
    hidden: Layer,
) -> Float[jax.Array, "b states"]:
    """A gated recurrent unit's next state (Cho et al. 2014), as `torch.nn.GRUCell`.

    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z); n = tanh(x_n + r h_n), the reset gate
    after the product; h' = (1 - z) n + z h.

    Args:
        gates: x = W_x input + b_x of r, z and n.
        state: h.
        hidden: W_h and b_h, with which h_r, h_z and h_n are made of h.
    """
    x_r, x_z, x_n = jnp.split(gates, 3, -1)
    h_r, h_z, h_n = jnp.split(state @ hidden.weight + hidden.bias[None], 3, -1)
    reset, keep = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    new = jnp.tanh(x_n + reset * h_n)
    return new + keep * (state - new)


def lstm(
    gates: Float[jax.Array, "b gates"],
    state: Float[jax.Array, "b states"],
    hidden: Layer,
) -> Float[jax.Array, "b states"]:
    """Long short-term memory's next state (Gers et al. 2000), as `torch.nn.LSTMCell`.

    i, f, o = sigmoid(x + h), g = tanh(x + h); c' = f c + i g; h' = o tanh(c').

    Args:
        gates: x = W_x input + b_x of i, f, g and o.
        state: h, then c.
        hidden: W_h and b_h.
    """
    h, c = jnp.split(state, 2, -1)
    i, f, g, o = jnp.split(gates + h @ hidden.weight + hidden.bias[None], 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c], -1)


STEPS = {GRU: gru, LSTM: lstm}


def unroll(
    kind: str,
    cell: Cell,
    inputs: Float[jax.Array, "t b in_"],
    starts: Float[jax.Array, "t b 1"],
    state: Float[jax.Array, "b states"],
) -> tuple[Float[jax.Array, "t b size"], Float[jax.Array, "b states"]]:
    """A cell's outputs at every step, and its last state.

    Args:
        kind: A name in `STEPS`.
        cell: Weights.
        inputs: Of the steps in their order.
        starts: 1 where the state is set to zeros before the step, else 0.
        state: Before the first step.
    """
    step, size = STEPS[kind], cell.hidden.weight.shape[0]

    def advance(state: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        x, keep = at
        state = step(x, keep * state, cell.hidden)
        return state, state[:, :size]

    # The input's products, for all steps at once, are the larger half of the work.
    gates = inputs @ cell.input.weight + cell.input.bias[None, None]
    state, outputs = jax.lax.scan(advance, state, (gates, 1.0 - starts))
    return outputs, state
