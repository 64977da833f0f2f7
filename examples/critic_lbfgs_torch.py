"""A critic fitted your own way in PyTorch: by `torch.optim.LBFGS` on the whole batch.

    python examples/critic_lbfgs_torch.py

`get_state` hands out an agent's weights as NumPy arrays, `set_state` takes them back;
what happens in between is yours. `critic_lbfgs_jax.py` does the same with optax.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from trpo import Trainer, preset_config


STEPS = 20


def values(weights: list[Tensor], obs: Tensor) -> Tensor:
    """Values [N, 1] of observations [N, obs_dim]: tanh between the layers."""
    *hidden, (weight, bias) = zip(weights[::2], weights[1::2], strict=True)
    for weights_in, bias_in in hidden:
        obs = torch.tanh(linear(obs, weights_in, bias_in))
    return linear(obs, weight, bias)


def fit(weights: list[Tensor], obs: Tensor, returns: Tensor) -> list[float]:
    """Fit the weights in place; the mean squared error at each evaluation."""
    optimizer = torch.optim.LBFGS(
        weights, max_iter=STEPS, line_search_fn="strong_wolfe"
    )
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ((values(weights, obs) - returns) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    return losses


def train(num_updates: int) -> list[list[float]]:
    """Train on Pendulum-v1; the losses of each update's fit."""
    # An update has one epoch of Adam at least; L-BFGS goes on from there.
    config = preset_config(
        "Pendulum-v1", backend="torch", value_epochs=1, normalize_observations=False
    )
    trainer, fits = Trainer(config), []
    for update in range(num_updates):
        rollout = trainer.collector.collect(trainer.agent, config.rollout_steps)
        batch = trainer.prepare_batch(rollout).batch
        trainer.agent.update(batch)
        state = trainer.agent.get_state()
        names = [name for name in state if name.startswith("value.layers.")]
        weights = [torch.from_numpy(state[n]).requires_grad_() for n in names]
        obs, returns = map(torch.from_numpy, (batch.obs, batch.returns))
        fits.append(fit(weights, obs, returns.reshape(-1, 1)))
        trainer.agent.set_state(
            state | {n: w.detach().numpy() for n, w in zip(names, weights, strict=True)}
        )
        print(f"update {update}: loss {fits[-1][0]:.3f} -> {min(fits[-1]):.3f}")
    trainer.close()
    return fits


if __name__ == "__main__":
    train(num_updates=60)
