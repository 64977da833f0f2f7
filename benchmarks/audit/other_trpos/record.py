"""What a library's runner reads and writes, and what all four need."""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from safetensors.numpy import load_file, save_file


Arrays = dict[str, np.ndarray]


def main(update: Callable[[Arrays], Arrays]) -> None:
    """Run one library's update on the arrays of a file, and write what it computed."""
    parser = argparse.ArgumentParser(description="one update of another library")
    parser.add_argument("given")
    parser.add_argument("written")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    arrays = update(load_file(arguments.given))
    save_file(
        {name: np.array(array, order="C") for name, array in arrays.items()},
        arguments.written,
    )


def network(sizes: list[int]) -> torch.nn.Sequential:
    """Linear layers with tanh between."""
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(before, after), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def sizes(arrays: Mapping[str, np.ndarray], prefix: str) -> list[int]:
    """Widths of a network of ours from input to output."""
    weights = [array for n, array in named(arrays, prefix) if n.endswith("weight")]
    return [weights[0].shape[1], *(weight.shape[0] for weight in weights)]


def named(arrays: Mapping[str, np.ndarray], prefix: str) -> list[tuple]:
    """Arrays of a network in our order: log_std, then each layer's weight and bias."""
    found = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
    names = [name for name in ("log_std",) if name in found]
    depth = sum(name.endswith("weight") for name in found)
    names += [f"layers.{i}.{part}" for i in range(depth) for part in ("weight", "bias")]
    return [(name, found[name]) for name in names]


def parameters_in_our_order(
    layers: torch.nn.Module, log_std: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """log_std, if there is one, then each linear layer's weight and bias."""
    linear = [m for m in layers.modules() if isinstance(m, torch.nn.Linear)]
    free = [] if log_std is None else [log_std]
    return free + [p for layer in linear for p in (layer.weight, layer.bias)]


def load(
    parameters: Sequence[torch.Tensor], arrays: Mapping[str, np.ndarray], prefix: str
) -> None:
    """Give parameters, in our order, the values of a network of ours."""
    with torch.no_grad():
        for parameter, (_, array) in zip(
            parameters, named(arrays, prefix), strict=True
        ):
            parameter.copy_(torch.as_tensor(array).reshape(parameter.shape))


def flat(parameters: Sequence[torch.Tensor], of: str = "value") -> np.ndarray:
    """Values or gradients of the parameters as one vector."""
    tensors = [p.detach() if of == "value" else p.grad for p in parameters]
    return torch.cat([t.reshape(-1) for t in tensors]).numpy().copy()  # pyright: ignore[reportOptionalMemberAccess]


class Order:
    """From a library's order of the policy's parameters to ours and back."""

    def __init__(
        self,
        ours: Sequence[torch.Tensor],
        theirs: Sequence[torch.Tensor],
    ) -> None:
        offsets, start = {}, 0
        for parameter in theirs:
            offsets[id(parameter)] = (start, start + parameter.numel())
            start += parameter.numel()
        self.places = np.concatenate([np.arange(*offsets[id(p)]) for p in ours])

    def to_ours(self, vector: torch.Tensor) -> np.ndarray:
        """A vector in the library's order, put in ours."""
        return vector.detach().double().numpy()[self.places]

    def to_theirs(self, vector: np.ndarray) -> torch.Tensor:
        """A vector in our order, put in the library's."""
        result = np.empty_like(vector)
        result[self.places] = vector
        return torch.as_tensor(result)
