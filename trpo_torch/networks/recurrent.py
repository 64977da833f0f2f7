"""Recurrent actor and critic: a cell, then a multilayer perceptron."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.data.batch import Sequences
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import CELLS
from trpo_torch.distributions import Distribution
from trpo_torch.networks import feedforward as mlp, recurrent_cells as cells
from trpo_torch.networks.feedforward import from_network
from trpo_torch.networks.recurrent_cells import Cell


class Weights(NamedTuple):
    """Weights of a recurrent network; `log_std` is None where it has none."""

    log_std: Tensor | None
    cell: Cell
    layers: list[mlp.Layer]


def forward(
    kind: str,
    weights: Weights,
    inputs: Float[Tensor, "t b in_"],
    starts: Float[Tensor, "t b 1"],
    state: Float[Tensor, "b states"],
    rows: Tensor | None = None,
) -> tuple[Float[Tensor, "n out"], Float[Tensor, "b states"]]:
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
    outputs = outputs.flatten(0, 1)
    if rows is not None:
        outputs = outputs[rows]
    return mlp.forward(weights.layers, outputs)[-1], state


class RecurrentCell(nn.Module):
    """Parameters of a cell.

    Args:
        kind: A name in `trpo.spaces.architecture.CELLS`.
        inputs: Entries of its input.
        size: Units.
    """

    input: nn.Linear
    hidden: nn.Linear

    def __init__(self, kind: str, inputs: int, size: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, CELLS[kind].gates * size)
        self.hidden = nn.Linear(size, CELLS[kind].gates * size)


class RecurrentPolicy(nn.Module):
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
    layers: nn.ModuleList

    log_std: nn.Parameter | None

    def __init__(
        self, obs_dim: int, kind: str, size: int, layer_sizes: Sequence[int], head: Head
    ) -> None:
        super().__init__()
        self.head, self.kind = head, kind
        free = torch.zeros(head.reals) if head.family.free_log_std else None
        self.register_parameter("log_std", None if free is None else nn.Parameter(free))
        self.cell = RecurrentCell(kind, obs_dim, size)
        self.layers = _linear_layers((size, *layer_sizes, head.output_dim))

    def forward(
        self,
        obs: Float[Tensor, "b obs_dim"],
        state: Float[Tensor, "b states"],
        mask: Tensor | None = None,
    ) -> tuple[Distribution, Float[Tensor, "b states"]]:
        """The distribution one step on, and the new state."""
        weights = self.weights(list(self.parameters()))
        outputs, state = _step(self.kind, weights, obs, state)
        made = from_network(self.head, outputs, weights.log_std, mask)
        return made, state

    def weights(self, parameters: Sequence[Tensor]) -> Weights:
        """Tensors in the order of `parameters()`, by their roles."""
        first, *rest = parameters
        if self.head.family.free_log_std:
            return _weights(first, rest)
        return _weights(None, parameters)


class RecurrentCritic(nn.Module):
    """Sequences of observations -> values.

    Args:
        obs_dim: Entries of an observation.
        kind: Of the cell.
        size: Units of the cell.
        layer_sizes: Units of the hidden layers after it.
    """

    cell: RecurrentCell
    layers: nn.ModuleList

    def __init__(
        self, obs_dim: int, kind: str, size: int, layer_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.kind = kind
        self.cell = RecurrentCell(kind, obs_dim, size)
        self.layers = _linear_layers((size, *layer_sizes, 1))

    def forward(
        self, obs: Float[Tensor, "b obs_dim"], state: Float[Tensor, "b states"]
    ) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b states"]]:
        """The value one step on, and the new state."""
        return _step(self.kind, _weights(None, list(self.parameters())), obs, state)

    def values(
        self, sequences: Sequences, parameters: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "t b 1"]:
        """The value of every observation of whole sequences; at other parameters."""
        steps, envs, _ = sequences.obs.shape
        weights = list(self.parameters()) if parameters is None else parameters
        values, _ = forward(
            self.kind,
            _weights(None, weights),
            sequences.obs,
            sequences.starts,
            sequences.memory.critic,
        )
        return values.reshape(steps, envs, 1)


class RecurrentPolicyFunction:
    """A recurrent policy as a function of its flat parameters [p], at fixed sequences.

    Args:
        policy: Module whose sizes it has; its weights are left alone.
        sequences: Observations, and the hidden states to begin with.
        mask: [n, options] 0 where an option can't be taken; None for no mask.
    """

    def __init__(
        self, policy: RecurrentPolicy, sequences: Sequences, mask: Tensor | None = None
    ) -> None:
        self._policy, self._sequences, self._mask = policy, sequences, mask
        self._shapes = [parameter.shape for parameter in policy.parameters()]

    def __call__(self, theta: Float[Tensor, " p"]) -> Distribution:
        """The distribution at each sample of the sequences."""
        pieces = theta.split([shape.numel() for shape in self._shapes])
        views = [p.view(s) for p, s in zip(pieces, self._shapes, strict=True)]
        weights, seen = self._policy.weights(views), self._sequences
        sequences = (seen.obs, seen.starts, seen.memory.policy, seen.rows)
        outputs, _ = forward(self._policy.kind, weights, *sequences)
        return from_network(self._policy.head, outputs, weights.log_std, self._mask)


def _linear_layers(sizes: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))


def _weights(log_std: Tensor | None, arrays: Sequence[Tensor]) -> Weights:
    """Weights from a cell's four arrays and the layers' in turn."""
    first, second, *layers = mlp.layers_of(arrays)
    return Weights(log_std, Cell(first, second), layers)


def _step(
    kind: str, weights: Weights, obs: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs and state after one observation of each environment."""
    return forward(kind, weights, obs[None], obs.new_zeros(1, len(obs), 1), state)
