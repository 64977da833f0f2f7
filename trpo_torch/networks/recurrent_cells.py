"""Recurrent cells, unrolled over the steps of sequences.

Made of matrix products alone: the fused kernels behind `torch.nn.GRU` and `nn.LSTM`
can't be differentiated twice, which Fisher products ask for.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from trpo.spaces.architecture import GRU, LSTM
from trpo_torch.networks.feedforward import Layer


class Cell(NamedTuple):
    """Weights of a cell: of its input and of its hidden state, gate by gate."""

    input: Layer
    hidden: Layer


def gru(
    gates: Float[Tensor, "b gates"], state: Float[Tensor, "b states"], hidden: Layer
) -> Float[Tensor, "b states"]:
    """A gated recurrent unit's next state (Cho et al. 2014), as `torch.nn.GRUCell`.

    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z); n = tanh(x_n + r h_n), the reset gate
    after the product; h' = (1 - z) n + z h.

    Args:
        gates: x = W_x input + b_x of r, z and n.
        state: h.
        hidden: W_h and b_h, with which h_r, h_z and h_n are made of h.
    """
    x_r, x_z, x_n = gates.chunk(3, -1)
    h_r, h_z, h_n = linear(state, hidden.weight, hidden.bias).chunk(3, -1)
    reset, keep = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    new = torch.tanh(x_n + reset * h_n)
    return new + keep * (state - new)


def lstm(
    gates: Float[Tensor, "b gates"], state: Float[Tensor, "b states"], hidden: Layer
) -> Float[Tensor, "b states"]:
    """Long short-term memory's next state (Gers et al. 2000), as `torch.nn.LSTMCell`.

    i, f, o = sigmoid(x + h), g = tanh(x + h); c' = f c + i g; h' = o tanh(c').

    Args:
        gates: x = W_x input + b_x of i, f, g and o.
        state: h, then c.
        hidden: W_h and b_h.
    """
    h, c = state.chunk(2, -1)
    i, f, g, o = (gates + linear(h, hidden.weight, hidden.bias)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)


STEPS = {GRU: gru, LSTM: lstm}


def unroll(
    kind: str,
    cell: Cell,
    inputs: Float[Tensor, "t b in_"],
    starts: Float[Tensor, "t b 1"],
    state: Float[Tensor, "b states"],
) -> tuple[Float[Tensor, "t b size"], Float[Tensor, "b states"]]:
    """A cell's outputs at every step, and its last state.

    Args:
        kind: A name in `STEPS`.
        cell: Weights.
        inputs: Of the steps in their order.
        starts: 1 where the state is set to zeros before the step, else 0.
        state: Before the first step.
    """
    step, size = STEPS[kind], cell.hidden.weight.shape[1]
    outputs = []
    # The input's products, for all steps at once, are the larger half of the work.
    gates = linear(inputs, cell.input.weight, cell.input.bias)
    for x, keep in zip(gates, 1.0 - starts, strict=True):
        state = step(x, keep * state, cell.hidden)
        outputs.append(state[:, :size])
    return torch.stack(outputs), state
