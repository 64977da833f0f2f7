"""Convolutional encoders of the images in observations.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods; a
smaller one where that does not fit (`trpo.spaces.architecture.Image`).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trpo.spaces.architecture import PIXEL_SCALE, Architecture, Image


class Encoder(nn.Module):
    """Pixels of one image -> features.

    Args:
        image: Its shape, which decides the layers.
    """

    convs: nn.ModuleList
    output: nn.Linear

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.image = image
        convs, channels = [], image.channels
        for filters, kernel, stride in image.convolutions:
            convs.append(nn.Conv2d(channels, filters, kernel, stride))
            channels = filters
        self.convs = nn.ModuleList(convs)
        self.output = nn.Linear(image.encoded, image.features)

    def forward(self, pixels: Float[Tensor, "n size"]) -> Float[Tensor, "n features"]:
        """Features of images as observed, 0 to 255, flattened."""
        image = self.image
        x = (pixels / PIXEL_SCALE).reshape(-1, *image.shape)
        if not image.channels_first:
            x = x.permute(0, 3, 1, 2)
        for conv in self.convs:
            x = torch.relu(conv(x))
        # In the order of channels, rows, columns.
        return torch.relu(self.output(x.flatten(1)))


def encode(
    encoders: Iterable[Encoder],
    obs: Float[Tensor, "n obs_dim"],
    architecture: Architecture,
) -> Float[Tensor, "n input_dim"]:
    """The entries of observations that are no pixels, then each image's features."""
    others = [obs[:, part] for part in architecture.vector_parts(obs.shape[1])]
    features = [encoder(obs[:, encoder.image.part]) for encoder in encoders]
    return torch.cat([*others, *features], 1)
