"""Networks of your own in JAX: a residual policy, and a critic beside it.

    python examples/custom_network_jax.py

Any `flax.nnx.Module` will do that maps observations [N, obs_dim] to what the policy's
distribution is made of, or to values [N, 1], and that has no variables but `nnx.Param`:
no dropout, no batch normalisation.
"""

import jax
from flax import nnx

from trpo import Progress, Trainer, preset_config


OBS_DIM, ACT_DIM = 3, 1  # Of Pendulum-v1.


class Residual(nnx.Module):
    """Blocks that add to what they are given.

    Args:
        inputs: Entries of an observation.
        outputs: Numbers to put out.
        rngs: What the weights are drawn from.
        units: Of the blocks.
    """

    def __init__(
        self, inputs: int, outputs: int, rngs: nnx.Rngs, units: int = 32
    ) -> None:
        self.first = nnx.Linear(inputs, units, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(units, units, rngs=rngs) for _ in range(2)])
        # A policy should begin with actions near the middle of their range.
        small = nnx.initializers.normal(0.01)
        self.last = nnx.Linear(units, outputs, kernel_init=small, rngs=rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Outputs [N, outputs] for observations [N, inputs]."""
        x = self.first(obs)
        for block in self.blocks:
            x = x + block(jax.nn.tanh(x))
        return self.last(jax.nn.tanh(x))


def train(num_updates: int) -> Trainer:
    """A run of Pendulum-v1 on these networks, after so many updates."""
    rngs = nnx.Rngs(0)
    trainer = Trainer(
        preset_config("Pendulum-v1", backend="jax"),
        policy_network=Residual(OBS_DIM, ACT_DIM, rngs),
        value_network=Residual(OBS_DIM, 1, rngs),
    )

    def report(progress: Progress) -> None:
        score = progress.metrics.get("rollout/episode_return_mean", float("nan"))
        print(f"{progress.step:8} steps, mean return {score:8.1f}")

    trainer.run(report, num_updates=num_updates)
    return trainer


if __name__ == "__main__":
    train(num_updates=60).close()
