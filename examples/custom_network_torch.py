"""Networks of your own in PyTorch: a residual policy, and a critic beside it.

    python examples/custom_network_torch.py

Any `torch.nn.Module` will do that maps observations [N, obs_dim] to what the policy's
distribution is made of, or to values [N, 1], and that is a function of its parameters
and of each row alone: no dropout, no batch normalisation.
"""

import torch
from torch import Tensor, nn

from trpo import Progress, Trainer, preset_config


OBS_DIM, ACT_DIM = 3, 1  # Of Pendulum-v1.


class Residual(nn.Module):
    """Blocks that add to what they are given.

    Args:
        inputs: Entries of an observation.
        outputs: Numbers to put out.
        units: Of the blocks.
    """

    def __init__(self, inputs: int, outputs: int, units: int = 32) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, units)
        self.blocks = nn.ModuleList(nn.Linear(units, units) for _ in range(2))
        self.last = nn.Linear(units, outputs)
        # A policy should begin with actions near the middle of their range.
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, obs: Tensor) -> Tensor:
        """Outputs [N, outputs] for observations [N, inputs]."""
        x = self.first(obs)
        for block in self.blocks:
            x = x + block(torch.tanh(x))
        return self.last(torch.tanh(x))


def train(num_updates: int) -> Trainer:
    """A run of Pendulum-v1 on these networks, after so many updates."""
    torch.manual_seed(0)
    trainer = Trainer(
        preset_config("Pendulum-v1", backend="torch"),
        policy_network=Residual(OBS_DIM, ACT_DIM),
        value_network=Residual(OBS_DIM, 1),
    )

    def report(progress: Progress) -> None:
        score = progress.metrics.get("rollout/episode_return_mean", float("nan"))
        print(f"{progress.step:8} steps, mean return {score:8.1f}")

    trainer.run(report, num_updates=num_updates)
    return trainer


if __name__ == "__main__":
    train(num_updates=60).close()
