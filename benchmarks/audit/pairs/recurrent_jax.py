"""JAX's sides of the recurrent pairs; imported only where JAX is."""

import jax
import jax.numpy as jnp

from parity_kit import probe


Weights = dict[str, jax.Array]


def lstm(w: Weights, x: jax.Array) -> jax.Array:
    """An LSTM by `scan`, gates in PyTorch's order, both biases."""

    def step(state: tuple, now: jax.Array) -> tuple:
        h, c = state
        gates = now @ w["input"].T + w["input_bias"]
        i, f, g, o = jnp.split(gates + h @ w["hidden"].T + w["hidden_bias"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((len(x), w["hidden"].shape[1]), x.dtype)
    return jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))[1].swapaxes(0, 1)


def gru(w: Weights, x: jax.Array) -> jax.Array:
    """A GRU whose reset gate multiplies after the hidden state's product."""

    def step(h: jax.Array, now: jax.Array) -> tuple:
        given = now @ w["input"].T + w["input_bias"]
        kept = h @ w["hidden"].T + w["hidden_bias"]
        (ir, iz, i_n), (hr, hz, hn) = jnp.split(given, 3, -1), jnp.split(kept, 3, -1)
        r, z = jax.nn.sigmoid(ir + hr), jax.nn.sigmoid(iz + hz)
        h = (1 - z) * jnp.tanh(i_n + r * hn) + z * h
        return h, h

    zero = jnp.zeros((len(x), w["hidden"].shape[1]), x.dtype)
    return jax.lax.scan(step, zero, x.swapaxes(0, 1))[1].swapaxes(0, 1)


def gru_of_the_paper(w: Weights, x: jax.Array) -> jax.Array:
    """A GRU whose reset gate multiplies the hidden state before the product."""
    hidden_r, hidden_z, hidden_n = jnp.split(w["hidden"], 3, 0)
    bias_r, bias_z, bias_n = jnp.split(w["hidden_bias"], 3)

    def step(h: jax.Array, now: jax.Array) -> tuple:
        ir, iz, i_n = jnp.split(now @ w["input"].T + w["input_bias"], 3, -1)
        r = jax.nn.sigmoid(ir + h @ hidden_r.T + bias_r)
        z = jax.nn.sigmoid(iz + h @ hidden_z.T + bias_z)
        h = (1 - z) * jnp.tanh(i_n + (r * h) @ hidden_n.T + bias_n) + z * h
        return h, h

    zero = jnp.zeros((len(x), hidden_n.shape[1]), x.dtype)
    return jax.lax.scan(step, zero, x.swapaxes(0, 1))[1].swapaxes(0, 1)


def lstm_step(w: Weights, x: jax.Array) -> jax.Array:
    """One step of an LSTM by hand that adds one to its forget gate, as Haiku's."""
    i, f, g, o = jnp.split(x @ w["input"].T + w["input_bias"], 4, -1)
    f = probe("forget", jax.nn.sigmoid(f + 1))
    cell = probe("cell", f + jax.nn.sigmoid(i) * jnp.tanh(g))
    return jax.nn.sigmoid(o) * jnp.tanh(cell)
