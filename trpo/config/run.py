"""Configuration of a training run: frozen, keyword-only, validated.

The agent's half of it is `trpo.config.agent.TRPOConfig`.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from trpo.common.formats import CONFIG, TRIED, removed_settings, translated
from trpo.common.user_modules import module_names
from trpo.common.validation import (
    LARGEST_COUNT,
    from_fields,
    make_plain,
    plain,
    require_between,
    require_bool,
    require_count,
    require_positive,
    require_positive_or_none,
    require_seed,
    require_text,
    shown,
)
from trpo.config.agent import StepNumbers, TRPOConfig as TRPOConfig
from trpo.config.callbacks import CallbackConfig
from trpo.config.choices import (
    INTERIM_EPISODES,
    LARGEST_BATCH,
    LARGEST_STEP,
    LONGEST_WAIT,
    MOST_EPISODES,
    Backend,
    require_choices,
)
from trpo.config.schedules import Schedule, scheduled


# A radius must stay above zero; equal advantages take no step at any radius.
SMALLEST_RADIUS_SHARE = 1e-8
MOST_NAMES = 1_000
NAMES_OF_CODE = {
    "wrapper_class": "Class", "policy_network": "function", "value_network": "function",
}  # fmt: skip
"""Fields that name a user's class or function, as module:name."""
PARTS: dict[str, type[Any]] = {"agent": TRPOConfig, "callbacks": CallbackConfig}


# Lowest and highest that is allowed.
COUNTS = {
    "total_steps": (1, LARGEST_STEP),
    "num_envs": (1, 2**20),
    "rollout_steps": (1, LARGEST_COUNT),
    "checkpoint_interval": (1, LARGEST_COUNT),
    "keep_checkpoints": (1, LARGEST_COUNT),
    "eval_episodes": (0, MOST_EPISODES),
    "eval_max_steps": (0, LARGEST_COUNT),
    "eval_interval": (0, LARGEST_COUNT),
    "eval_interval_steps": (0, LARGEST_COUNT),
    "eval_interval_episodes": (1, MOST_EPISODES),
    "environment_restarts": (0, LARGEST_COUNT),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run: environment, budget, normalisation, evaluation, saving.

    Raises:
        ValueError: a field is out of range; the message names the field.
    """

    env_id: str
    """Gymnasium environment id, for example Pendulum-v1 or HalfCheetah-v5."""
    backend: Backend = "jax"
    """Framework that computes the agent."""
    device: str = "cpu"
    """Device of the framework: cpu, cuda, cuda:1, tpu (JAX), or auto."""
    seed: int = 0
    """Seed of every random stream of the run: weights, noise, resets, minibatches."""
    total_steps: int = 100_000
    """Environment steps over all environments, rounded up to whole rollouts."""
    num_envs: int = 8
    """Environments stepped together."""
    rollout_steps: int = 256
    """Steps of each environment per update; the batch is num_envs * rollout_steps."""
    agent: TRPOConfig = dataclasses.field(default_factory=TRPOConfig)
    """Hyperparameters of the agent."""
    policy_network: str | None = None
    """Your own function that makes the policy's network, as module:function. It may
    take any of the arguments obs_dim, outputs, seed, backend."""
    value_network: str | None = None
    """The same for the critic's network, whose outputs are 1."""
    final_target_kl: float | None = None
    """The target_kl of the last update; it changes linearly. None: constant."""
    full_radius_advantage_std: float = 0.0
    """Below this standard deviation of the advantages (in units of scaled returns) they
    are mostly noise, and target_kl falls with their variance. 0: off."""
    final_value_lr: float | None = None
    """The value_lr of the last update; it changes linearly. None: constant."""
    modules: tuple[str, ...] = ()
    """Your own code, imported first: it registers the environment. Dotted names, or
    paths of .py files or packages, whose folder goes to the end of sys.path."""
    env_kwargs: dict[str, bool | int | float | str] = dataclasses.field(
        default_factory=dict, hash=False
    )
    """Arguments of the environment's constructor; typed as NAME VALUE NAME VALUE."""
    wrapper_class: str | None = None
    """A gymnasium.Wrapper to put round each environment, as module:Class."""
    vectorization: Literal["sync", "async", "ray", "envpool"] = "sync"
    """Where environments run. sync: in this process; async: a process each; ray: an
    actor each, in the cluster that RAY_ADDRESS names; envpool: in EnvPool's threads."""
    environment_timeout: float = 60.0
    """Seconds that an environment in a process of its own has to answer."""
    environment_restarts: int = 0
    """How many environments that fail in a step are replaced; with async and ray."""
    omit_observations: tuple[str, ...] = ()
    """Keys of a Dict of observations that the agent isn't given, such as MiniGrid's
    mission; outer.inner for one within."""
    action_masks: Literal["info", "observation", "method"] = "info"
    """Where the environment has its action masks: in each info["action_mask"], if at
    all; obs["action_mask"], as PettingZoo's; or env.action_masks(), sb3-contrib's."""
    on_bad_data: Literal["stop", "drop"] = "stop"
    """Stop at a NaN or infinity from an environment, or drop its episode's steps."""
    normalize_observations: bool = True
    """Subtract the running mean, divide by the running standard deviation."""
    observation_clip: float = 10.0
    """Normalised observations are clipped to this absolute value."""
    scale_returns: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    eval_episodes: int = 20
    """Deterministic episodes of the evaluation after the last update; 0 for none."""
    eval_max_steps: int = 0
    """Steps after which an episode of an evaluation is cut; 0 for the environment's
    own limit, or 27,000 if it has none."""
    eval_interval: int = 0
    """Updates between evaluations during training; 0 for none."""
    eval_interval_steps: int = 0
    """The same in environment steps, rounded up to whole updates; 0: in updates."""
    eval_interval_episodes: int = INTERIM_EPISODES
    """Episodes of each of these evaluations."""
    checkpoint_interval: int = 10
    """Updates between checkpoints; one is always written at the end."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept."""
    callbacks: CallbackConfig = dataclasses.field(default_factory=CallbackConfig)
    """Best model, stopping early, films, Weights & Biases."""
    deterministic: bool = False
    """The same bits each time on a GPU too, by slower kernels; a CPU needs no flag."""

    # Title of options in `trpo train --help-all` -> the first field of it.
    GROUPS: ClassVar[Mapping[str, str]] = {
        "policy": "policy_network",
        "trust region": "final_target_kl",
        "critic": "final_value_lr",
        "environment": "modules",
        "normalisation": "normalize_observations",
        "evaluation": "eval_episodes",
        "saving and logging": "checkpoint_interval",
        "devices and precision": "deterministic",
    }

    def __post_init__(self) -> None:
        make_plain(self)
        require_text("env_id", self.env_id, "the id of an environment")
        object.__setattr__(self, "modules", module_names(self.modules))
        object.__setattr__(self, "omit_observations", self._omitted())
        self._check_making()
        require_choices(self)
        require_positive("environment_timeout", self.environment_timeout)
        require_between(
            "environment_timeout", self.environment_timeout, 0.0, LONGEST_WAIT
        )
        require_text("device", self.device, "a name as 'cpu'")
        for name, (low, high) in COUNTS.items():
            require_count(name, getattr(self, name), low, high)
        self._check_sizes()
        if self.eval_interval_steps:
            batch = self.num_envs * self.rollout_steps
            object.__setattr__(
                self, "eval_interval", -(-self.eval_interval_steps // batch)
            )
        require_seed(self.seed)
        require_positive("observation_clip", self.observation_clip)
        require_between(
            "full_radius_advantage_std", self.full_radius_advantage_std, 0.0, math.inf
        )
        require_positive_or_none("final_target_kl", self.final_target_kl)
        require_positive_or_none("final_value_lr", self.final_value_lr)
        for name in ("deterministic", "normalize_observations", "scale_returns"):
            require_bool(name, getattr(self, name))
        for name, kind in PARTS.items():
            if not isinstance(part := getattr(self, name), kind):
                raise ValueError(
                    f"`{name}`: expected a {kind.__name__}, got {shown(part)}."
                )
        self.callbacks.require_evaluations(self.eval_interval)

    def _check_making(self) -> None:
        arguments = self.env_kwargs
        ok = isinstance(arguments, dict) and len(arguments) <= MOST_NAMES
        ok = ok and all(
            isinstance(name, str)
            and name.isidentifier()
            and isinstance(plain(value), bool | int | float | str)
            and plain(value) not in (math.inf, -math.inf)
            and plain(value) == plain(value)
            for name, value in arguments.items()
        )
        if not ok:
            raise ValueError(
                "`env_kwargs`: expected names of arguments with a flag, a finite "
                f"number or a text each, got {shown(arguments)}."
            )
        plain_arguments = {name: plain(value) for name, value in arguments.items()}
        object.__setattr__(self, "env_kwargs", plain_arguments)
        for field, kind in NAMES_OF_CODE.items():
            if (text := getattr(self, field)) is None:
                continue
            require_text(field, text, f"module:{kind}")
            module, colon, name = text.partition(":")
            if not (
                colon and all(map(str.isidentifier, f"{module}.{name}".split(".")))
            ):
                raise ValueError(
                    f"`{field}`: expected module:{kind}, got {shown(text)}."
                )

    def _omitted(self) -> tuple[str, ...]:
        names = self.omit_observations
        if isinstance(names, list | tuple) and len(names) <= MOST_NAMES:
            for name in names:
                require_text("omit_observations", name, "a key of the observation")
            return tuple(names)
        raise ValueError(
            f"`omit_observations`: expected a list of at most {MOST_NAMES} keys, "
            f"got {shown(names)}."
        )

    def _check_sizes(self) -> None:
        samples = int(self.num_envs) * int(self.rollout_steps)
        if samples > LARGEST_BATCH:
            raise ValueError(
                f"`rollout_steps`: expected at most {LARGEST_BATCH:,} samples in a "
                f"batch, got {samples:,}, which is {self.rollout_steps:,} of each of "
                f"{self.num_envs:,} environments."
            )
        if self.num_steps > LARGEST_STEP:
            raise ValueError(
                f"`total_steps`: expected at most {LARGEST_STEP:,} in whole rollouts, "
                f"got {self.num_steps:,}."
            )

    @property
    def num_updates(self) -> int:
        """Updates of the whole run: `total_steps` in whole rollouts, rounded up."""
        return -(-self.total_steps // (self.num_envs * self.rollout_steps))

    @property
    def num_steps(self) -> int:
        """Environment steps of the whole run, in whole rollouts."""
        return self.num_updates * self.num_envs * self.rollout_steps

    def numbers_at(
        self,
        update: int,
        advantage_std: float = math.inf,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> StepNumbers:
        """Numbers of the update that comes after `update` others, by the schedule.

        Args:
            update: Updates done before.
            advantage_std: Standard deviation of its advantages before they are
                normalised, in units of scaled returns.
            schedules: Of the user's, in place of the configuration's, by name.

        Raises:
            ValueError: a schedule of the user's says what is no such number.
        """
        progress = update / max(1, self.num_updates - 1)
        start = self.agent.step_numbers()
        final = self.agent.step_numbers(self.final_target_kl, self.final_value_lr)
        # Exact where nothing changes, and from the configured end on, where a + (b - a)
        # would be 0 for a b that is lost beside a.
        pairs = zip(start, final, strict=True)
        numbers = StepNumbers(
            *(a + (b - a) * progress if progress < 1 else b for a, b in pairs)
        )
        remaining = 1.0 - min(update, self.num_updates - 1) / self.num_updates
        numbers = numbers._replace(
            **{n: scheduled(n, s, remaining) for n, s in (schedules or {}).items()}
        )
        full = self.full_radius_advantage_std
        if full == 0.0 or advantage_std >= full:  # The former of a NaN too.
            return numbers
        share = max((advantage_std / full) ** 2, SMALLEST_RADIUS_SHARE)
        return numbers._replace(target_kl=numbers.target_kl * share)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready nested dictionaries."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], *, drop_removed: bool = False
    ) -> "TrainConfig":
        """The configuration that `to_dict` made, also of an older format.

        Args:
            values: Nested dictionaries.
            drop_removed: Drop settings that were removed, and warn of those that were
                in use: an agent acts without them, and does not learn as before.

        Raises:
            ValueError: a name is unknown or missing, a value is out of range, or a
                setting was removed that was in use.
        """
        if not isinstance(values, dict):
            raise ValueError(
                f"`TrainConfig`: expected a dictionary, got {shown(values)}."
            )
        if removed := removed_settings(values):
            listed = f"{' '.join(removed)} See {TRIED}."
            if not drop_removed:
                raise ValueError(
                    f"{listed} Training can't go on without it; `trpo evaluate` and "
                    "`trpo.load_agent` take the run."
                )
            warnings.warn(listed, stacklevel=2)
        values, parts = translated(CONFIG, values), {}
        for name, kind in PARTS.items():
            fields = values.get(name, {})
            if not isinstance(fields, dict):
                raise ValueError(
                    f"`{name}`: expected a dictionary, got {shown(fields)}."
                )
            parts[name] = from_fields(kind, fields)
        return from_fields(cls, {**values, **parts})
