"""What lies between an observation and a network's last layer."""

import dataclasses


ACTIVATIONS = ("tanh", "relu", "elu", "gelu", "silu")
# Those whose slope is a function of their value: `mlp.py` differentiates by hand.
BY_HAND = ("tanh", "relu", "elu")
LAYER_NORM_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a network is built; hashable, so that JAX may jit on it.

    Args:
        activation: Of the hidden layers, one of `ACTIVATIONS`.
        layer_norm: Normalise each hidden layer's sums over its units, before the
            activation, then scale and shift each unit by learned numbers (Ba et al.
            2016, "Layer Normalization", eq. 4; 1e-5 is added to the variance).
    """

    activation: str = "tanh"
    layer_norm: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether `mlp.py` has its derivatives; `autodiff.py` has those of others."""
        return self.activation in BY_HAND and not self.layer_norm


PLAIN = Architecture()
