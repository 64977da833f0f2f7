"""Configuration of an agent and of a training run: frozen, keyword-only, validated.

Equation numbers refer to Schulman et al. 2015, "Trust Region Policy Optimization"
(TRPO), and Schulman et al. 2016, "High-Dimensional Continuous Control Using
Generalized Advantage Estimation" (GAE).
"""

import dataclasses
import math
from typing import Literal

import tyro

from trpo.architecture import Architecture, Image
from trpo.callback_config import CallbackConfig
from trpo.choices import BACKENDS, CHOICES, COUNTS, RUN_COUNTS, VECTORIZATIONS
from trpo.heads import GAUSSIAN
from trpo.schedules import scheduled_rates
from trpo.transitions import ON_BAD_DATA
from trpo.types import Rates
from trpo.validation import (
    from_fields,
    layer_sizes,
    require_between,
    require_bool,
    require_choice,
    require_count,
    require_positive,
    require_positive_or_none,
    require_seed,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TRPOConfig:
    """Hyperparameters of one agent.

    Raises:
        ValueError: a field is out of range; the message names the field, what was
            expected and what came.
    """

    policy_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the policy network."""
    critic_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the critic network."""
    activation: str = "tanh"
    """Of the hidden layers: tanh, relu, elu, gelu (exact, by erf) or silu."""
    layer_norm: bool = False
    """Layer normalisation, with scale and shift, before each hidden activation."""
    share_encoder: bool = False
    """Critic of the policy's last hidden layer, which it sees and does not train."""
    recurrent: str = "none"
    """Memory of policy and critic, each its own, before the layers: none, gru, lstm."""
    recurrent_size: int = 64
    """Units of a recurrent cell."""
    gamma: float = 0.99
    """Discount factor per step, in [0, 1] (GAE, eq. 1)."""
    gae_lambda: float = 0.95
    """Exponential weight of the advantage estimator, in [0, 1] (GAE, eq. 16)."""
    target_kl: float = 0.01
    """Trust-region radius, mean KL(old || new) in nats per state (TRPO, eq. 12)."""
    cg_iters: int = 10
    """Most conjugate-gradient iterations, i.e. Fisher-vector products, per update."""
    cg_damping: float = 0.1
    """Multiple of the identity added to the Fisher matrix (TRPO, appendix C)."""
    cg_residual_tol: float = 1e-10
    """Conjugate gradient stops when the squared residual of F x = g / |g| is below."""
    backtrack_coeff: float = 0.8
    """Factor between consecutive line-search candidates, in (0, 1)."""
    backtrack_iters: int = 10
    """Most line-search candidates; the first is the full step."""
    value_lr: float = 3e-4
    """Learning rate of the critic's optimiser."""
    value_epochs: int = 10
    """Passes of the critic's regression over the batch, per update."""
    value_minibatch_size: int = 256
    """Samples per critic gradient step; larger than the batch means the whole batch.
    Of a recurrent critic, as many whole sequences as have that many, at least one."""
    max_grad_norm: float = 0.5
    """The critic's gradient is scaled down to this Euclidean norm."""
    normalize_advantages: bool = True
    """Subtract mean and divide by population standard deviation, once per batch."""
    optimizer_type: str = "adam"
    """Critic's optimiser: "adam" (epsilon 1e-5) or "sgd" (with momentum)."""
    sgd_momentum: float = 0.9
    """Momentum of "sgd", in [0, 1)."""
    policy_distribution: str = GAUSSIAN
    """Of Box actions: gaussian, squashed_gaussian, either with _state_std appended."""
    initialization: str = "orthogonal"
    """Of weights: orthogonal, or as a framework's own linear layers, torch or flax."""
    initial_log_std: float = 0.0
    """Initial log standard deviation of every action dimension, in [-20, 2]."""
    fisher_product: str = "gauss_newton"
    """Fisher-vector product: "gauss_newton" (J' M J) or "kl_hessian" (of mean KL)."""
    dtype: str = "float32"
    """Precision of weights and arithmetic: "float32" or "float64"."""
    matmul_precision: str = "float32"
    """Matrix products on accelerators: "float32", or the faster "tf32", "bfloat16"."""

    def __post_init__(self) -> None:
        for name in ("policy_layer_sizes", "critic_layer_sizes"):
            object.__setattr__(self, name, layer_sizes(name, getattr(self, name)))
        optimizer = self.optimizer_type
        if isinstance(optimizer, str):
            object.__setattr__(self, "optimizer_type", optimizer.strip().lower())
        for name, low, high in (
            ("gamma", 0.0, 1.0),
            ("gae_lambda", 0.0, 1.0),
            ("cg_residual_tol", 0.0, math.inf),
            ("cg_damping", 0.0, math.inf),
            ("initial_log_std", -20.0, 2.0),
        ):
            require_between(name, getattr(self, name), low, high)
        for name in ("target_kl", "value_lr", "max_grad_norm"):
            require_positive(name, getattr(self, name))
        for name in COUNTS:
            require_count(name, getattr(self, name))
        require_between("backtrack_coeff", self.backtrack_coeff, 0.0, 1.0, open_=True)
        require_between("sgd_momentum", self.sgd_momentum, 0.0, 1.0)
        if self.sgd_momentum == 1.0:
            raise ValueError("`sgd_momentum`: expected a value below 1, got 1.0.")
        require_bool("normalize_advantages", self.normalize_advantages)
        require_bool("layer_norm", self.layer_norm)
        require_bool("share_encoder", self.share_encoder)
        for name, choices in CHOICES.items():
            require_choice(name, getattr(self, name), choices)

    def architecture(self, images: tuple[Image, ...] = ()) -> Architecture:
        """What both networks are built of, for observations with these images."""
        return Architecture(self.activation, self.layer_norm, images)

    def rates(
        self, target_kl: float | None = None, value_lr: float | None = None
    ) -> Rates:
        """Rates of one update: what is given, else this configuration's.

        Raises:
            ValueError: one is not a finite number above 0.
        """
        rates = Rates(
            self.target_kl if target_kl is None else target_kl,
            self.value_lr if value_lr is None else value_lr,
        )
        for name, value in rates._asdict().items():
            require_positive(name, value)
        return rates


PARTS = {"agent": TRPOConfig, "callbacks": CallbackConfig}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run: environment, budget, normalisation, evaluation, saving.

    Raises:
        ValueError: a field is out of range; the message names the field.
    """

    env_id: tyro.conf.Positional[str]
    """Gymnasium environment id, for example Pendulum-v1 or HalfCheetah-v5."""
    backend: Literal["jax", "torch"] = "jax"
    """Framework that computes the agent."""
    device: str = "cpu"
    """Device of the framework: cpu, cuda, cuda:1, or tpu (JAX)."""
    seed: int = 0
    """Seed of every random stream of the run: weights, noise, resets, minibatches."""
    total_steps: int = 100_000
    """Environment steps over all environments, rounded up to whole rollouts."""
    num_envs: int = 8
    """Environments stepped together."""
    rollout_steps: int = 256
    """Steps of each environment per update; the batch is num_envs * rollout_steps."""
    vectorization: Literal["sync", "async"] = "sync"
    """Environments in this process, or each in its own (spawned) process."""
    environment_timeout: float = 60.0
    """Seconds that an environment in a process of its own has to answer."""
    environment_restarts: int = 0
    """Environments in processes that may fail in a step and are replaced, in all."""
    on_bad_data: Literal["stop", "drop"] = "stop"
    """Stop at a NaN or infinity from an environment, or drop its episode's steps."""
    final_target_kl: float | None = None
    """Radius of the last update; falls linearly from target_kl. None: constant."""
    final_value_lr: float | None = None
    """Critic's learning rate in the last update, likewise from value_lr."""
    full_radius_advantage_std: float = 0.0
    """Where advantages deviate less than this, the radius falls with their variance, as
    a penalised step's does (TRPO, section 4); in units of scaled returns. 0: off."""
    normalize_observations: bool = True
    """Subtract the running mean, divide by the running standard deviation."""
    observation_clip: float = 10.0
    """Normalised observations are clipped to this absolute value."""
    scale_returns: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    eval_episodes: int = 20
    """Deterministic episodes of the evaluation after the last update; 0 for none."""
    eval_interval: int = 0
    """Updates between evaluations of 5 episodes during training; 0 for none."""
    checkpoint_interval: int = 10
    """Updates between checkpoints; one is always written at the end."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept."""
    agent: TRPOConfig = dataclasses.field(default_factory=TRPOConfig)
    """Hyperparameters of the agent."""
    callbacks: CallbackConfig = dataclasses.field(default_factory=CallbackConfig)
    """Best model, stopping early, films, Weights & Biases."""

    def __post_init__(self) -> None:
        if not (isinstance(self.env_id, str) and self.env_id):
            raise ValueError(
                f"`env_id`: expected the id of an environment, got {self.env_id!r}."
            )
        require_choice("backend", self.backend, BACKENDS)
        require_choice("vectorization", self.vectorization, VECTORIZATIONS)
        require_choice("on_bad_data", self.on_bad_data, ON_BAD_DATA)
        require_positive("environment_timeout", self.environment_timeout)
        if not (isinstance(self.device, str) and self.device):
            raise ValueError(
                f"`device`: expected a name as 'cpu', got {self.device!r}."
            )
        for name in RUN_COUNTS:
            require_count(name, getattr(self, name))
        for name in ("eval_episodes", "eval_interval", "environment_restarts"):
            require_count(name, getattr(self, name), minimum=0)
        require_seed(self.seed)
        require_positive("observation_clip", self.observation_clip)
        require_between(
            "full_radius_advantage_std", self.full_radius_advantage_std, 0.0, math.inf
        )
        require_positive_or_none("final_target_kl", self.final_target_kl)
        require_positive_or_none("final_value_lr", self.final_value_lr)
        for name in ("normalize_observations", "scale_returns"):
            require_bool(name, getattr(self, name))
        for name, kind in PARTS.items():
            if not isinstance(part := getattr(self, name), kind):
                raise ValueError(f"`{name}`: expected a {kind.__name__}, got {part!r}.")
        self.callbacks.require_evaluations(self.eval_interval)

    @property
    def num_updates(self) -> int:
        """Updates of the whole run: `total_steps` in whole rollouts, rounded up."""
        return -(-self.total_steps // (self.num_envs * self.rollout_steps))

    @property
    def num_steps(self) -> int:
        """Environment steps of the whole run, in whole rollouts."""
        return self.num_updates * self.num_envs * self.rollout_steps

    def rates_at(self, update: int, advantage_std: float = math.inf) -> Rates:
        """Rates of the update that comes after `update` others.

        Args:
            update: Updates done before.
            advantage_std: Deviation of its advantages before they are normalised.
        """
        return scheduled_rates(self, update, advantage_std)

    def to_dict(self) -> dict:
        """The configuration as JSON-ready nested dictionaries."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """The configuration that `to_dict` wrote.

        Raises:
            ValueError: a name is unknown or missing, or a value is out of range.
        """
        made = {}
        for name, kind in PARTS.items():
            fields = values.get(name, {})
            if not isinstance(fields, dict):
                raise ValueError(f"`{name}`: expected a dictionary, got {fields!r}.")
            made[name] = from_fields(kind, fields)
        return from_fields(cls, {**values, **made})
