"""Layers between an observation and a network's last layer."""

import dataclasses
from typing import NamedTuple


NONE, GRU, LSTM = "none", "gru", "lstm"


class CellKind(NamedTuple):
    """Sizes of a recurrent cell of `size` units.

    Attributes:
        gates: rows of its weights, in multiples of `size`.
        states: entries of its hidden state, likewise; the first `size` are its output.
    """

    gates: int
    states: int


CELLS = {GRU: CellKind(gates=3, states=1), LSTM: CellKind(gates=4, states=2)}


LAYER_NORM_EPSILON = 1e-5
PIXEL_SCALE = 255.0


class Convolution(NamedTuple):
    """Filters, rows and columns of the kernel, and the stride; no padding."""

    filters: int
    kernel: tuple[int, int]
    stride: int


# Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods.
LARGE = (
    Convolution(32, (8, 8), 4),
    Convolution(64, (4, 4), 2),
    Convolution(64, (3, 3), 1),
)
LARGE_FEATURES = 512
SMALLEST_OF_LARGE = 36
# Young and Tian 2019, "MinAtar", section 3.
SMALL_FILTERS, SMALL_KERNEL, SMALL_FEATURES = 16, 3, 128


@dataclasses.dataclass(frozen=True)
class Image:
    """An image among the entries of a flat observation, and what encodes it.

    At least 36 by 36 pixels: convolutions of 32 8 x 8 with stride 4, 64 4 x 4 with
    stride 2 and 64 3 x 3, and a linear layer of 512 units. Fewer: 16 3 x 3 (2 x 3 or
    so, if there is no more) and 128 units. All with relu, of pixels over 255.

    Args:
        start: Column of its first entry.
        height: Rows of pixels.
        width: Columns of pixels.
        channels: Numbers of each pixel.
        channels_first: Whether channels are the slowest index, else the fastest.
    """

    start: int
    height: int
    width: int
    channels: int
    channels_first: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the image as it is observed."""
        pixels = (self.height, self.width)
        if self.channels_first:
            return (self.channels, *pixels)
        return (*pixels, self.channels)

    @property
    def part(self) -> slice:
        """Its columns of the observation."""
        size = self.height * self.width * self.channels
        return slice(self.start, self.start + size)

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """From the pixels on."""
        if min(self.height, self.width) >= SMALLEST_OF_LARGE:
            return LARGE
        down, across = (min(SMALL_KERNEL, n) for n in (self.height, self.width))
        return (Convolution(SMALL_FILTERS, (down, across), 1),)

    @property
    def encoded(self) -> int:
        """Numbers that the last convolution puts out."""
        height, width = self.height, self.width
        for _, (down, across), stride in self.convolutions:
            height = (height - down) // stride + 1
            width = (width - across) // stride + 1
        return self.convolutions[-1].filters * height * width

    @property
    def features(self) -> int:
        """Units of the linear layer, the encoder's last."""
        return LARGE_FEATURES if self.convolutions == LARGE else SMALL_FEATURES


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a network is built; hashable, so that JAX may jit on it.

    Args:
        activation: Of the hidden layers, a name of `TRPOConfig.activation`.
        layer_norm: Normalise each hidden layer's sums over its units, before the
            activation, then scale and shift each unit by learned numbers (Ba et al.
            2016, "Layer Normalization", eq. 4; 1e-5 is added to the variance).
        images: In observations, from the first column on. Each has an encoder; its
            features, after the other entries, are what the first layer is given.
    """

    activation: str = "tanh"
    layer_norm: bool = False
    images: tuple[Image, ...] = ()

    @property
    def after_encoder(self) -> "Architecture":
        """Architecture of a critic whose input is the policy's last hidden layer."""
        return dataclasses.replace(self, images=())

    def vector_parts(self, obs_dim: int) -> tuple[slice, ...]:
        """Columns of an observation that are no pixels."""
        ends = [0, *(image.part.stop for image in self.images)]
        starts = [*(image.start for image in self.images), obs_dim]
        pairs = zip(ends, starts, strict=True)
        return tuple(slice(a, b) for a, b in pairs if a < b)

    def input_dim(self, obs_dim: int) -> int:
        """Numbers that the first layer is given."""
        others = sum(part.stop - part.start for part in self.vector_parts(obs_dim))
        return others + sum(image.features for image in self.images)


PLAIN = Architecture()


def check_images(images: tuple[Image, ...], obs_dim: int) -> None:
    """Raise ValueError unless observations can have these images, in order."""
    end = 0
    for image in images:
        counts = (image.height, image.width, image.channels)
        if image.start < end or image.part.stop > obs_dim or min(counts) < 1:
            raise ValueError(
                f"`images`: expected parts, in order, of an observation's {obs_dim} "
                f"entries, got {image}."
            )
        end = image.part.stop
