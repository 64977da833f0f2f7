"""Counts, ranges and choices that the fields of a configuration may have."""

import functools
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from trpo.common.validation import LARGEST_COUNT, require_choice


STOP, DROP = "stop", "drop"
# Checkpoints are named by steps of 12 digits.
LARGEST_STEP = 10**12 - 1
LARGEST_BATCH = 2**30
# Each episode of an evaluation has an environment of its own.
MOST_EPISODES = 100_000
# Seconds; beyond, the system's own clocks overflow.
LONGEST_WAIT = 1e6

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
RUN_COUNTS = {
    "total_steps": (1, LARGEST_STEP),
    "num_envs": (1, 2**20),
    "rollout_steps": (1, LARGEST_COUNT),
    "checkpoint_interval": (1, LARGEST_COUNT),
    "keep_checkpoints": (1, LARGEST_COUNT),
    "eval_episodes": (0, MOST_EPISODES),
    "eval_max_steps": (0, LARGEST_COUNT),
    "eval_interval": (0, LARGEST_COUNT),
    "environment_restarts": (0, LARGEST_COUNT),
}
Backend = Literal["jax", "torch"]


@functools.cache
def choices_of(kind: type) -> dict[str, tuple[str, ...]]:
    """Fields whose annotation is a `Literal`, by name, with their values."""
    hints = get_type_hints(kind).items()
    return {n: get_args(hint) for n, hint in hints if get_origin(hint) is Literal}


def require_choices(config: Any) -> None:
    """Raise ValueError, naming field and choices, unless each such field has one.

    Args:
        config: A dataclass.
    """
    for name, choices in choices_of(type(config)).items():
        require_choice(name, getattr(config, name), choices)
