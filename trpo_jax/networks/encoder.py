"""Convolutional encoders of the images in observations.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods; a
smaller one where that does not fit (`trpo.spaces.architecture.Image`).
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from trpo.spaces.architecture import PIXEL_SCALE, Architecture, Image


class Encoder(nnx.Module):
    """Pixels of one image -> features.

    Args:
        image: Its shape, which decides the layers.
    """

    convs: nnx.List[Any]
    output: nnx.Linear

    def __init__(self, image: Image) -> None:
        self.image = image
        # The weights are overwritten by `trpo.spaces.initialization`'s.
        rngs = nnx.Rngs(0)
        convs, channels = [], image.channels
        for filters, kernel, stride in image.convolutions:
            convs.append(
                nnx.Conv(channels, filters, kernel, stride, padding="VALID", rngs=rngs)
            )
            channels = filters
        self.convs = nnx.List(convs)
        self.output = nnx.Linear(image.encoded, image.features, rngs=rngs)

    def __call__(
        self, pixels: Float[jax.Array, "n size"]
    ) -> Float[jax.Array, "n features"]:
        """Features of images as observed, 0 to 255, flattened."""
        image = self.image
        x = (pixels / PIXEL_SCALE).reshape(-1, *image.shape)
        if image.channels_first:
            x = x.transpose(0, 2, 3, 1)
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        # In the order of channels, rows, columns.
        return jax.nn.relu(self.output(x.transpose(0, 3, 1, 2).reshape(len(x), -1)))


def encode(
    encoders: Iterable[Encoder],
    obs: Float[jax.Array, "n obs_dim"],
    architecture: Architecture,
) -> Float[jax.Array, "n input_dim"]:
    """The entries of observations that are no pixels, then each image's features."""
    others = [obs[:, part] for part in architecture.vector_parts(obs.shape[1])]
    features = [encoder(obs[:, encoder.image.part]) for encoder in encoders]
    return jnp.concatenate([*others, *features], 1)
