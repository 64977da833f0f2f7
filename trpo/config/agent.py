"""Hyperparameters of an agent: frozen, keyword-only, validated.

Equation numbers refer to Schulman et al. 2015, "Trust Region Policy Optimization"
(TRPO), and Schulman et al. 2016, "High-Dimensional Continuous Control Using
Generalized Advantage Estimation" (GAE).
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from trpo.common.validation import (
    LARGEST_COUNT,
    field_texts,
    layer_sizes,
    make_plain,
    require_between,
    require_bool,
    require_count,
    require_positive,
    section,
    shown,
)
from trpo.config.choices import require_choices
from trpo.spaces.action_heads import PolicyDistribution
from trpo.spaces.architecture import Architecture, Image


# Lowest and highest that is allowed: the highest is far above what anyone trains with,
# and below what would take a machine's memory or never return.
COUNTS = {
    "recurrent_size": (1, 16_384),
    "cg_iters": (1, 10_000),
    "backtrack_iters": (1, 1_000),
    "value_epochs": (1, 10_000),
    "value_minibatch_size": (0, LARGEST_COUNT),
    "fisher_every": (1, LARGEST_COUNT),
}
BOOLS = ("layer_norm", "share_encoder", "normalize_advantages")
POSITIVE = ("target_kl", "value_lr", "max_grad_norm")
# Likewise, of numbers.
RANGES = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "cost_standard_errors": (0.0, math.inf),
    "cost_gamma": (0.0, 1.0),
    "cost_lambda": (0.0, 1.0),
    "cg_residual_tol": (0.0, math.inf),
    "cg_damping": (0.0, math.inf),
    "entropy_coefficient": (0.0, math.inf),
    "sgd_momentum": (0.0, 1.0),
    "initial_log_std": (-20.0, 2.0),
}


# Options decide what is computed: names, counts, sizes. Numbers go into it, and other
# numbers make the same program: JAX compiles once for all agents of equal options.
class StepOptions(NamedTuple):
    """What decides the program of an update; hashable. See `TRPOConfig`'s fields.

    Attributes:
        with_entropy: whether `entropy_coefficient` is above 0.
        with_momentum: whether `sgd_momentum` is above 0, which takes slots.
    """

    cg_iters: int
    backtrack_iters: int
    line_search: str
    fisher_product: str
    fisher_every: int
    value_epochs: int
    value_minibatch_size: int
    optimizer_type: str
    share_encoder: bool
    batch_chunk_size: int | None
    matmul_precision: str
    with_entropy: bool
    with_momentum: bool

    @classmethod
    def of(cls, config: Any) -> "StepOptions":
        """The options of a `TRPOConfig`."""
        derived = [config.entropy_coefficient > 0.0, config.sgd_momentum > 0.0]
        return cls._make([getattr(config, name) for name in cls._fields[:-2]] + derived)


class StepNumbers(NamedTuple):
    """Numbers of an update, floats or arrays [], under their names in `TRPOConfig`."""

    target_kl: Any
    value_lr: Any
    gamma: Any
    gae_lambda: Any
    cg_damping: Any
    cg_residual_tol: Any
    backtrack_coeff: Any
    entropy_coefficient: Any
    max_grad_norm: Any
    sgd_momentum: Any

    @classmethod
    def of(cls, config: Any) -> "StepNumbers":
        """The numbers of a `TRPOConfig`."""
        return cls(*(getattr(config, name) for name in cls._fields))


MEMBERS_OWN = (*StepNumbers._fields, "initial_log_std")
"""Fields of `TRPOConfig` that members of one compiled run may differ in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TRPOConfig:
    """Hyperparameters of one agent.

    Raises:
        ValueError: a field is out of range; the message names the field, what was
            expected and what came.
    """

    policy_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the policy network."""
    activation: Literal["tanh", "relu", "elu", "gelu", "silu"] = "tanh"
    """Activation of hidden layers: tanh, relu, elu, gelu (exact, by erf) or silu."""
    layer_norm: bool = False
    """Layer normalisation, with scale and shift, before each hidden activation."""
    share_encoder: bool = False
    """The critic takes the policy's last hidden layer as input, without training it."""
    recurrent: Literal["none", "gru", "lstm"] = "none"
    """A recurrent cell before the layers, one for policy and one for critic."""
    recurrent_size: int = 64
    """Units of a recurrent cell."""
    policy_distribution: PolicyDistribution = "gaussian"
    """Distribution of Box actions: gaussian or squashed_gaussian; with _state_std
    appended, the network puts out the standard deviations too."""
    initialization: Literal["orthogonal", "torch", "flax"] = "orthogonal"
    """Initial weights: orthogonal, or as a framework's linear layers, torch or flax."""
    initial_log_std: float = 0.0
    """Initial log standard deviation of every action dimension, in [-20, 2]."""
    gamma: float = 0.99
    """Discount factor per step, in [0, 1] (GAE, eq. 1)."""
    gae_lambda: float = 0.95
    """Exponential weight of the advantage estimator, in [0, 1] (GAE, eq. 16)."""
    normalize_advantages: bool = True
    """Subtract the mean of a batch's advantages and divide by their (population)
    standard deviation. The training loop does it, not `update`."""
    target_kl: float = 0.01
    """Trust-region radius, mean KL(old || new) in nats per state (TRPO, eq. 12)."""
    cg_iters: int = 10
    """Most conjugate-gradient iterations, i.e. Fisher-vector products, per update."""
    cg_damping: float = 0.1
    """Multiple of the identity added to the Fisher matrix (TRPO, appendix C)."""
    cg_residual_tol: float = 1e-10
    """Conjugate gradient stops at a squared residual of F x = g / |g| below this."""
    backtrack_coeff: float = 0.8
    """Factor between consecutive line-search candidates, in (0, 1)."""
    backtrack_iters: int = 10
    """Most line-search candidates; the first is the full step."""
    line_search: Literal["sequential", "none"] = "sequential"
    """By "sequential" smaller and smaller steps are tried until one is good; by "none"
    the full step s, s'(F + damping)s / 2 = target_kl, is taken if it is finite (natural
    policy gradient: Kakade 2001, "A Natural Policy Gradient")."""
    fisher_product: Literal["gauss_newton", "kl_hessian"] = "gauss_newton"
    """Fisher-vector product: "gauss_newton" (J' M J) or "kl_hessian" (of mean KL)."""
    fisher_every: int = 1
    """Fisher products use every k-th sample, from the first on (OpenAI Baselines:
    every 5th); gradient and line search use all."""
    entropy_coefficient: float = 0.0
    """Bonus for entropy: this times the mean entropy is added to the objective, in
    gradient, line search and metrics (Williams and Peng 1991, "Function Optimization
    Using Connectionist Reinforcement Learning Algorithms"); in advantages per nat."""
    critic_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the critic network."""
    value_lr: float = 3e-4
    """Learning rate of the critic's optimiser."""
    value_epochs: int = 10
    """Passes of the critic's regression over the batch, per update."""
    value_minibatch_size: int = 256
    """Samples per critic gradient step; 0, or more than there are: the whole batch.
    A recurrent critic takes whole sequences of about that many, at least one."""
    max_grad_norm: float = 0.5
    """A critic's gradient of a larger Euclidean norm is scaled down to it."""
    optimizer_type: Literal["adam", "sgd"] = "adam"
    """Critic's optimiser: "adam" (epsilon 1e-5) or "sgd" (with momentum)."""
    sgd_momentum: float = 0.9
    """Momentum of "sgd", in [0, 1)."""
    cost_limit: float | None = None
    """Limit on the mean cost of an episode, the undiscounted sum of `info["cost"]`
    (Achiam et al. 2017, "Constrained Policy Optimization", eq. 10). While it is
    exceeded, updates lower the cost; where it doesn't matter, they are plain TRPO's.
    None: costs are not read."""
    cost_standard_errors: float = 0.0
    """How many standard errors of the mean cost are added to it before it is held to
    `cost_limit`: J + z s / sqrt(n), of a rollout's n finished episodes. A step that
    looks best by a noisy J costs more than it seems. 0: J alone, as Achiam et al."""
    cost_gamma: float = 0.99
    """Discount factor of cost advantages per step, in [0, 1]."""
    cost_lambda: float = 0.95
    """Exponential weight of the cost-advantage estimator, in [0, 1]."""
    batch_chunk_size: int | None = None
    """Samples whose activations are in memory at a time. Larger batches are worked
    through in chunks of that many, which takes longer. None: the whole batch."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic: "float32" or "float64"."""
    matmul_precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Matrix products on accelerators: "float32", or the faster "tf32", "bfloat16"."""
    fast_products: Literal["auto", "on", "off"] = "auto"
    """PyTorch on a CPU: "on" takes hand-written derivatives of plain tanh, relu or elu
    layers, and oneDNN's matrix products; "auto" does so where it can; "off" takes
    automatic derivatives, the same but for rounding, in 1.4 times the time. JAX
    compiles its own and refuses "on"."""

    # Title of options in `trpo train --help-all` -> the first field of it.
    GROUPS: ClassVar[Mapping[str, str]] = {
        "policy": "policy_layer_sizes",
        "advantages": "gamma",
        "trust region": "target_kl",
        "critic": "critic_layer_sizes",
        "costs": "cost_limit",
        "devices and precision": "batch_chunk_size",
    }

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("policy_layer_sizes", "critic_layer_sizes"):
            object.__setattr__(self, name, layer_sizes(name, getattr(self, name)))
        optimizer = self.optimizer_type
        if isinstance(optimizer, str):
            object.__setattr__(self, "optimizer_type", optimizer.strip().lower())
        self._check_numbers()
        for name in BOOLS:
            require_bool(name, getattr(self, name))
        require_choices(self)

    def _check_numbers(self) -> None:
        for name, (low, high) in RANGES.items():
            require_between(name, getattr(self, name), low, high)
        for name in POSITIVE:
            require_positive(name, getattr(self, name))
        for name, (low, high) in COUNTS.items():
            require_count(name, getattr(self, name), low, high)
        # A chunk of one row would look like what is the same for all rows.
        rows = 2 if self.batch_chunk_size is None else self.batch_chunk_size
        require_count("batch_chunk_size", rows, minimum=2)
        require_between("backtrack_coeff", self.backtrack_coeff, 0.0, 1.0, open_=True)
        if self.cost_limit is not None:
            require_between("cost_limit", self.cost_limit, 0.0, math.inf)
        if self.sgd_momentum == 1.0:
            raise ValueError("`sgd_momentum`: expected a value below 1, got 1.0.")

    def architecture(self, images: tuple[Image, ...] = ()) -> Architecture:
        """Layers of both networks but the last, for observations with these images."""
        return Architecture(self.activation, self.layer_norm, images)

    def step_options(self) -> StepOptions:
        """What decides the program of an update."""
        return StepOptions.of(self)

    def step_numbers(
        self,
        target_kl: float | None = None,
        value_lr: float | None = None,
        entropy_coefficient: float | None = None,
    ) -> StepNumbers:
        """The numbers of one update: what is given, else this configuration's.

        Raises:
            ValueError: one that is given is out of range.
        """
        numbers = StepNumbers.of(self)
        for name, value in (("target_kl", target_kl), ("value_lr", value_lr)):
            if value is not None:
                require_positive(name, value)
                numbers = numbers._replace(**{name: value})
        if entropy_coefficient is None:
            return numbers
        require_between("entropy_coefficient", entropy_coefficient, 0.0, math.inf)
        if entropy_coefficient and not self.entropy_coefficient:
            raise ValueError(
                "`entropy_coefficient`: expected 0 for an agent that was made without "
                f"one and computes no entropy, got {shown(entropy_coefficient)}."
            )
        return numbers._replace(entropy_coefficient=entropy_coefficient)


FIELD_TEXTS = field_texts(TRPOConfig)
"""What each field of `TRPOConfig` is, as `help` shows it."""
TRPOConfig.__doc__ = "\n\n".join(
    [inspect.cleandoc(TRPOConfig.__doc__ or ""), section("Attributes", FIELD_TEXTS)]
)
