"""The members of a compiled run: seeds times the values of a sweep."""

import dataclasses
import itertools
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trpo.common.machine import available_cores
from trpo.common.validation import assignments, require_count
from trpo.config.run import TrainConfig


SWEEPABLE = (
    "target_kl",
    "value_lr",
    "gamma",
    "gae_lambda",
    "cg_damping",
    "cg_residual_tol",
    "max_grad_norm",
    "initial_log_std",
)
"""Fields of `TRPOConfig` that members may differ in; arrays in the compiled program."""
MOST_MEMBERS = 10_000


def reserve_cpu_devices(members: int) -> None:
    """Have JAX divide a CPU into a device for each core, so that members use them all.

    A single member may use two, see `trpo_jax.loop.program.parts_mesh`. JAX reads
    the setting once, when it is imported; one that the user has made stays.
    """
    if "jax" not in sys.modules:
        devices = min(available_cores(), max(members, 2))
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(devices))


class NamedMember(NamedTuple):
    """One run of many.

    Attributes:
        name: of its directory, such as "target_kl=0.01,seed=3".
        config: of the run alone.
        values: what was swept -> this member's value.
    """

    name: str
    config: TrainConfig
    values: dict[str, float]


def parse_sweep(arguments: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Hyperparameter -> values, from arguments such as "target_kl=0.003,0.01".

    Raises:
        ValueError: a hyperparameter can't be swept, comes twice, or a value is no
            number.
    """
    sweep: dict[str, tuple[float, ...]] = {}
    advice = " Others change the compiled program: give each value a run of its own."
    for name, texts in assignments("sweep", arguments, SWEEPABLE, advice).items():
        try:
            sweep[name] = tuple(map(float, texts))
        except ValueError as error:
            raise ValueError(
                f"`sweep`: expected numbers of {name!r}, parted by commas, got "
                f"{','.join(texts)!r}."
            ) from error
        if len(set(sweep[name])) < len(sweep[name]):
            raise ValueError(
                f"`sweep`: expected distinct values of {name!r}, got {','.join(texts)}."
            )
    return sweep


def members_of(
    config: TrainConfig, num_seeds: int, sweep: Mapping[str, Sequence[float]]
) -> list[NamedMember]:
    """Each combination of the swept values, with each seed from the run's own up.

    Raises:
        ValueError: a count or a value is out of range.
    """
    require_count("num_seeds", num_seeds, maximum=MOST_MEMBERS)
    count = num_seeds * math.prod(map(len, sweep.values()))
    if count > MOST_MEMBERS:
        raise ValueError(
            f"`sweep`: expected at most {MOST_MEMBERS:,} members, got {count:,}."
        )
    members = []
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        agent = dataclasses.replace(config.agent, **chosen)
        for seed in range(config.seed, config.seed + num_seeds):
            parts = [f"{name}={value:g}" for name, value in chosen.items()]
            members.append(
                NamedMember(
                    ",".join([*parts, f"seed={seed}"]),
                    dataclasses.replace(config, seed=seed, agent=agent),
                    chosen,
                )
            )
    if len({member.name for member in members}) < len(members):
        raise ValueError(
            "`sweep`: expected values that differ in their first six digits, by which "
            "members' directories are named."
        )
    return members
