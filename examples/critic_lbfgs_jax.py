"""A critic fitted your own way in JAX: by `optax.lbfgs` on the whole batch.

    python examples/critic_lbfgs_jax.py

`get_state` hands out an agent's weights as NumPy arrays, `set_state` takes them back;
what happens in between is yours. `critic_lbfgs_torch.py` does the same with PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trpo import Trainer, preset_config


STEPS = 20


def values(weights: list[jax.Array], obs: jax.Array) -> jax.Array:
    """Values [N, 1] of observations [N, obs_dim]: tanh between the layers."""
    *hidden, (weight, bias) = zip(weights[::2], weights[1::2], strict=True)
    for weights_in, bias_in in hidden:
        obs = jnp.tanh(obs @ weights_in.T + bias_in[None])
    return obs @ weight.T + bias[None]


@jax.jit
def fit(
    weights: list[jax.Array], obs: jax.Array, returns: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    """Fitted weights, and the mean squared error before each step."""

    def loss(weights: list[jax.Array]) -> jax.Array:
        return ((values(weights, obs) - returns) ** 2).mean()

    optimizer = optax.lbfgs()
    # The line search has evaluated the next step's point already.
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        weights, state = carry
        value, gradient = value_and_grad(weights, state=state)
        updates, state = optimizer.update(
            gradient, state, weights, value=value, grad=gradient, value_fn=loss
        )
        return (optax.apply_updates(weights, updates), state), value

    start = (weights, optimizer.init(weights))
    (weights, _), losses = jax.lax.scan(step, start, length=STEPS)
    return weights, losses


def train(num_updates: int) -> list[np.ndarray]:
    """Train on Pendulum-v1; the losses of each update's fit."""
    # An update has one epoch of Adam at least; L-BFGS goes on from there.
    config = preset_config(
        "Pendulum-v1", backend="jax", value_epochs=1, normalize_observations=False
    )
    trainer, fits = Trainer(config), []
    for update in range(num_updates):
        rollout = trainer.collector.collect(trainer.agent, config.rollout_steps)
        batch = trainer.prepare_batch(rollout).batch
        trainer.agent.update(batch)
        state = trainer.agent.get_state()
        names = [name for name in state if name.startswith("value.layers.")]
        returns = batch.returns.reshape(-1, 1)
        weights, losses = fit([state[n] for n in names], batch.obs, returns)
        fits.append(np.asarray(losses))
        trainer.agent.set_state(
            state | {n: np.array(w) for n, w in zip(names, weights, strict=True)}
        )
        print(f"update {update}: loss {fits[-1][0]:.3f} -> {fits[-1].min():.3f}")
    trainer.close()
    return fits


if __name__ == "__main__":
    train(num_updates=60)
