"""Networks of a user's own, as a module that `--module` can name; no framework yet."""

import numpy as np


def policy(obs_dim, outputs, seed, backend):
    """Two layers with a norm between them, alike in both backends."""
    if backend == "torch":
        from torch import nn

        return nn.Sequential(
            nn.Linear(obs_dim, 6), nn.LayerNorm(6, 1e-6), nn.Tanh(),
            nn.Linear(6, outputs),
        )  # fmt: skip
    import jax
    from flax import nnx

    rngs = nnx.Rngs(seed)
    return nnx.Sequential(
        nnx.Linear(obs_dim, 6, rngs=rngs), nnx.LayerNorm(6, rngs=rngs), jax.nn.tanh,
        nnx.Linear(6, outputs, rngs=rngs),
    )  # fmt: skip


def value(obs_dim, backend):
    """One layer."""
    return policy(obs_dim, 1, 0, backend)


def needs_more(obs_dim, units):
    """A function that asks for what is not there."""
    return policy(obs_dim, units, 0, "torch")


def fails():
    """A function that fails."""
    raise KeyError("planted")


NO_FUNCTION = np.zeros(3)
