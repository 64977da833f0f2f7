"""PyTorch's sides of the recurrent pairs; imported only where PyTorch is."""

import torch

from parity_kit import probe


def lstm(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own LSTM over a batch of sequences, from zero."""
    size = w["hidden"].shape[1]
    zero = torch.zeros(1, len(x), size, dtype=x.dtype)
    flat = [w["input"], w["hidden"], w["input_bias"], w["hidden_bias"]]
    return torch.lstm(x, (zero, zero), flat, True, 1, 0.0, False, False, True)[0]


def gru(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own GRU over a batch of sequences, from zero."""
    zero = torch.zeros(1, len(x), w["hidden"].shape[1], dtype=x.dtype)
    flat = [w["input"], w["hidden"], w["input_bias"], w["hidden_bias"]]
    return torch.gru(x, zero, flat, True, 1, 0.0, False, False, True)[0]


def lstm_step(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """One step of an LSTM by hand, from a cell of ones."""
    gates = x @ w["input"].mT + w["input_bias"]
    i, f, g, o = gates.chunk(4, -1)
    f = probe("forget", torch.sigmoid(f))
    cell = probe("cell", f + torch.sigmoid(i) * torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(cell)
