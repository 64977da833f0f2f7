"""Configuration of an agent and of a training run: frozen, keyword-only, validated.

Equation numbers refer to Schulman et al. 2015, "Trust Region Policy Optimization"
(TRPO), and Schulman et al. 2016, "High-Dimensional Continuous Control Using
Generalized Advantage Estimation" (GAE).
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Literal

import tyro


DTYPES = ("float32", "float64")
FISHER_PRODUCTS = ("gauss_newton", "kl_hessian")
OPTIMIZER_TYPES = ("adam", "sgd")
MATMUL_PRECISIONS = ("float32", "tf32", "bfloat16")
BACKENDS = ("jax", "torch")
VECTORIZATIONS = ("sync", "parallel", "async")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TRPOConfig:
    """Hyperparameters of one agent.

    Raises:
        ValueError: a field is out of range; the message names the field, what was
            expected and what came.
    """

    policy_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden tanh layer of the policy network."""
    critic_layer_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden tanh layer of the critic network."""
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
    """Samples per critic gradient step; larger than the batch means the whole batch."""
    max_grad_norm: float = 0.5
    """The critic's gradient is scaled down to this Euclidean norm."""
    normalize_advantages: bool = True
    """Subtract mean and divide by population standard deviation, once per batch."""
    optimizer_type: str = "adam"
    """Critic's optimiser: "adam" (epsilon 1e-5) or "sgd" (with momentum)."""
    sgd_momentum: float = 0.9
    """Momentum of "sgd", in [0, 1)."""
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
            object.__setattr__(self, name, _layer_sizes(name, getattr(self, name)))
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
        for name in (
            "cg_iters",
            "backtrack_iters",
            "value_epochs",
            "value_minibatch_size",
        ):
            require_count(name, getattr(self, name))
        require_between("backtrack_coeff", self.backtrack_coeff, 0.0, 1.0, open_=True)
        require_between("sgd_momentum", self.sgd_momentum, 0.0, 1.0)
        if self.sgd_momentum == 1.0:
            raise ValueError("`sgd_momentum`: expected a value below 1, got 1.0.")
        require_bool("normalize_advantages", self.normalize_advantages)
        require_choice("optimizer_type", self.optimizer_type, OPTIMIZER_TYPES)
        require_choice("fisher_product", self.fisher_product, FISHER_PRODUCTS)
        require_choice("dtype", self.dtype, DTYPES)
        require_choice("matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)


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
    vectorization: Literal["sync", "parallel", "async"] = "sync"
    """Environments in this process, shared out over the cores, or each in its own."""
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

    def __post_init__(self) -> None:
        if not (isinstance(self.env_id, str) and self.env_id):
            raise ValueError(
                f"`env_id`: expected the id of an environment, got {self.env_id!r}."
            )
        require_choice("backend", self.backend, BACKENDS)
        require_choice("vectorization", self.vectorization, VECTORIZATIONS)
        if not (isinstance(self.device, str) and self.device):
            raise ValueError(
                f"`device`: expected a name such as 'cpu' or 'cuda', "
                f"got {self.device!r}."
            )
        for name in ("total_steps", "num_envs", "rollout_steps"):
            require_count(name, getattr(self, name))
        for name in ("checkpoint_interval", "keep_checkpoints"):
            require_count(name, getattr(self, name))
        for name in ("eval_episodes", "eval_interval"):
            require_count(name, getattr(self, name), minimum=0)
        require_seed(self.seed)
        require_positive("observation_clip", self.observation_clip)
        for name in ("normalize_observations", "scale_returns"):
            require_bool(name, getattr(self, name))
        if not isinstance(self.agent, TRPOConfig):
            raise ValueError(f"`agent`: expected a TRPOConfig, got {self.agent!r}.")

    @property
    def num_updates(self) -> int:
        """Updates of the whole run: `total_steps` in whole rollouts, rounded up."""
        return -(-self.total_steps // (self.num_envs * self.rollout_steps))

    def to_dict(self) -> dict:
        """The configuration as JSON-ready nested dictionaries."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """The configuration that `to_dict` wrote.

        Raises:
            ValueError: a name is unknown or missing, or a value is out of range.
        """
        agent = values.get("agent", {})
        if not isinstance(agent, dict):
            raise ValueError(f"`agent`: expected a dictionary, got {agent!r}.")
        agent = _from_dict(TRPOConfig, agent)
        return _from_dict(cls, {**values, "agent": agent})


def _from_dict(kind: type, values: dict):  # noqa: ANN202
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"`{kind.__name__}`: unknown field {unknown[0]!r}; it has {sorted(known)}."
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"`{kind.__name__}`: {error}.") from error


def _layer_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) == 0:
        raise ValueError(
            f"`{name}`: expected one or more hidden layer widths such as (64, 64), "
            f"got {sizes!r}."
        )
    for size in sizes:
        require_count(name, size)
    return tuple(int(size) for size in sizes)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not (_is_number(value) and math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}`: expected a finite number above 0, got {value!r}.")


def require_between(
    name: str, value: float, low: float, high: float, *, open_: bool = False
) -> None:
    """Raise ValueError unless `value` is finite and in [low, high] ((low, high))."""
    ok = _is_number(value) and math.isfinite(value)
    ok = ok and (low < value < high if open_ else low <= value <= high)
    if not ok:
        brackets = "()" if open_ else "[]"
        raise ValueError(
            f"`{name}`: expected a finite number in "
            f"{brackets[0]}{low:g}, {high:g}{brackets[1]}, got {value!r}."
        )


def require_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise ValueError unless `value` is an integer of at least `minimum`."""
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not (whole and value >= minimum):
        raise ValueError(
            f"`{name}`: expected an integer of at least {minimum}, got {value!r}."
        )


def require_bool(name: str, value: bool) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`: expected True or False, got {value!r}.")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{name}`: expected one of {', '.join(map(repr, choices))}, got {value!r}."
        )


def require_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is an integer in [0, 2**63)."""
    require_count("seed", seed, minimum=0)
    if seed >= 2**63:
        raise ValueError(f"`seed`: expected an integer below 2**63, got {seed!r}.")
