"""The state of a training: its parts by name, and how to come back to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


OTHERS = ("return_scaler.", "environment.", "training.", "costs.")


def agent_state(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The agent's part of a training state."""
    return {name: array for name, array in state.items() if not name.startswith(OTHERS)}


def part_of(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """The part of a training state that is called `prefix`, without that."""
    prefix += "."
    return {
        name.removeprefix(prefix): array
        for name, array in state.items()
        if name.startswith(prefix)
    }


def mark(trainer: Any) -> tuple:
    """All that a trainer's `get_state` is made of, to come back to; cheap."""
    scaler, moments = trainer.return_scaler, trainer.return_scaler.moments
    return (
        trainer.agent.snapshot(),
        trainer.collector.mark(),
        (moments.count, moments.mean, moments.squared_deviations),
        scaler.discounted,
        (trainer.update_count, trainer.episode_count, trainer.recent.copy()),
        None if trainer.costs is None else trainer.costs.mark(),
    )


def return_to(trainer: Any, before: tuple) -> None:
    """Make every byte of `get_state` what it was at `mark`."""
    agent, collector, of_moments, discounted, counts, costs = before
    trainer.return_scaler.discounted = discounted
    if trainer.costs is not None:
        trainer.costs.return_to(costs)
    trainer.agent.restore(agent)
    trainer.collector.return_to(collector)
    moments = trainer.return_scaler.moments
    moments.count, moments.mean, moments.squared_deviations = of_moments
    trainer.update_count, trainer.episode_count, trainer.recent = counts
