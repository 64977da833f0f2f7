"""A small policy in NumPy, which acts while a framework would still be called.

For a few observations a framework's time is its calls: next to an environment's step,
which takes its code out of the processor's caches, PyTorch needs three and JAX five
times as long. What a policy says of its actions is computed by the framework, of a
whole rollout at once.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from trpo.config.run import TRPOConfig
from trpo.data.normalization import ObservationNormalizer
from trpo.spaces.action_heads import FORCED, LOG_STD_MAX, LOG_STD_MIN, MASKED, Head
from trpo.spaces.architecture import NONE
from trpo.spaces.spaces import PolicySpec


# Multiplications of a product up to which NumPy's library computes it in one thread.
MOST_MULTIPLICATIONS = 2**18
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda x: np.tanh(x, out=x),
    "relu": lambda x: np.maximum(x, 0.0, out=x),
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    "silu": lambda x: x * _sigmoid(x),
}
"""Of hidden layers; over their argument where they can be."""


def acts_here(config: TRPOConfig, spec: PolicySpec, rows: int) -> bool:
    """Whether a policy of these settings acts in NumPy on so many observations.

    Not where it has other layers or computes in another precision, nor where a
    framework's threads are worth their while. Wherever it learns: weights leave an
    accelerator once a rollout, and observations need not go there at each step.

    Args:
        config: Of the agent.
        spec: Likewise.
        rows: Observations at a time.
    """
    widths = (spec.obs_dim, *config.policy_layer_sizes, spec.head.output_dim)
    return (
        config.activation in ACTIVATIONS
        and config.matmul_precision == "float32"
        and config.recurrent == NONE
        and not (config.layer_norm or spec.images)
        and rows * max(a * b for a, b in itertools.pairwise(widths))
        <= MOST_MULTIPLICATIONS
    )


class HostPolicy:
    """A policy as it is now: of raw observations, whatever is learned later.

    Args:
        head: Its distribution.
        activation: Of its hidden layers, a key of `ACTIVATIONS`.
        arrays: Its own, copies, under canonical names.
        normalizer: Of observations, or None.
        rows: Observations at a time.
    """

    def __init__(
        self,
        head: Head,
        activation: str,
        arrays: Mapping[str, np.ndarray],
        normalizer: ObservationNormalizer | None,
        rows: int,
    ) -> None:
        names = [name for name in arrays if name.endswith(".weight")]
        # Sums of few numbers take half the time where both have the same shape.
        arrays = {
            n: a.T if a.ndim > 1 else np.tile(a, (rows, 1)) for n, a in arrays.items()
        }
        layers = [(arrays[n], arrays[n.replace(".weight", ".bias")]) for n in names]
        *self._hidden, self._last = layers
        self._head, self._activate = head, ACTIVATIONS[activation]
        self._dtype = layers[0][0].dtype
        self._scaled = None
        if normalizer is not None:
            self._scaled = normalizer.scaling(self._dtype)
        self._std = None
        if (log_std := arrays.get("policy.log_std")) is not None:
            self._std = _std(log_std)

    def act(
        self, obs: np.ndarray, noise: np.ndarray | None, mask: np.ndarray | None
    ) -> np.ndarray:
        """Actions [B, act_dim]; the most likely ones without noise.

        Args:
            obs: [B, obs_dim] raw observations, which have been checked.
            noise: [B, act_dim] as `AgentBase.draw_noise` makes it.
            mask: [B, options], which has been checked; None where all is allowed.
        """
        x = obs if self._scaled is None else self._scaled(obs)
        x = x.astype(self._dtype, copy=False)
        for weight, bias in self._hidden:
            # As `@`, which takes longer to begin.
            x = x.dot(weight)
            x += bias
            x = self._activate(x)
        x = x.dot(self._last[0])
        x += self._last[1]
        head = self._head
        if head.reals == head.act_dim:
            return self._reals(x, noise)
        logits = x[:, head.real_outputs :]
        uniform = None if noise is None else _below_one(noise[:, head.reals :])
        choose = _chosen if head.action_sizes else _switched
        choices = choose(head, logits, uniform, mask).astype(self._dtype)
        if not head.reals:
            return choices
        normal = None if noise is None else noise[:, : head.reals]
        reals = self._reals(x[:, : head.real_outputs], normal)
        return np.concatenate([reals, choices], axis=1)

    def _reals(self, outputs: np.ndarray, normal: np.ndarray | None) -> np.ndarray:
        """Entries that are real numbers [B, reals]."""
        mean, std = outputs, self._std
        if std is None:
            mean = outputs[:, : self._head.reals]
        if normal is None:
            return mean
        if std is None:
            std = _std(outputs[:, self._head.reals :])
        return mean + std * normal


def _std(log_std: np.ndarray) -> np.ndarray:
    return np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))


def _below_one(noise: np.ndarray) -> np.ndarray:
    """Uniform noise, also where rounding has made it 1."""
    return np.minimum(noise, 1.0 - np.finfo(noise.dtype).epsneg)


def _chosen(
    head: Head,
    logits: np.ndarray,
    uniform: np.ndarray | None,
    mask: np.ndarray | None,
) -> np.ndarray:
    """An option of each choice [B, choices], by inversion."""
    if mask is not None:
        logits = np.where(mask, logits, MASKED)
    options = []
    for j, part in enumerate(np.split(logits, np.cumsum(head.options)[:-1], axis=1)):
        if uniform is None:
            options.append(part.argmax(axis=1))
            continue
        sums = np.exp(part - part.max(axis=1, keepdims=True)).cumsum(axis=1)
        threshold = uniform[:, j, None] * sums[:, -1:]
        options.append((sums <= threshold).sum(axis=1))
    return np.stack(options, axis=1)


def _switched(
    _: Head, logits: np.ndarray, uniform: np.ndarray | None, mask: np.ndarray | None
) -> np.ndarray:
    """Whether each switch is on [B, switches]."""
    if mask is not None:
        logits = np.where(mask[:, ::2], logits, FORCED)
        logits = np.where(mask[:, 1::2], logits, -FORCED)
    return logits > 0 if uniform is None else uniform < _sigmoid(logits)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # Not 1 / (1 + exp(-x)), which overflows.
    return 0.5 * (1.0 + np.tanh(0.5 * x))
