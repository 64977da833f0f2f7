"""The state of a training: its parts by name, and how to come back to it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


# Episodes that `rollout/episode_return_mean` averages over, as in Stable-Baselines3.
RECENT_EPISODES = 100
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


def unrecorded(state: Mapping[str, np.ndarray]) -> list[int]:
    """Environments that can't be restored in the middle of their episode."""
    environment = part_of(state, "environment")
    lost = ~environment["replayable"] & (environment["episode_length"] > 0)
    return [int(i) for i in np.flatnonzero(lost)]


def mark(trainer: Any) -> tuple:
    """All that a trainer's `get_state` is made of, to come back to; cheap."""
    scaler, moments = trainer.return_scaler, trainer.return_scaler.moments
    return (
        trainer.agent.snapshot(),
        trainer.collector.mark(),
        (moments.count, moments.mean, moments.squared_deviations),
        scaler.discounted,
        (trainer.update_count, trainer.episode_count),
        (trainer.recent.copy(), trainer.successes.copy()),
        None if trainer.costs is None else trainer.costs.mark(),
    )


def counters_state(
    updates: int,
    episodes: int,
    recent: Iterable[tuple[float, int]],
    successes: Iterable[float] = (),
) -> dict[str, np.ndarray]:
    """Counters of a training, and its recent episodes, by canonical names.

    Successes are left out where no environment tells of any.
    """
    rates = np.array(list(successes), dtype=np.float64)
    told = {"training.recent_successes": rates} if rates.size else {}
    return told | {
        "training.update": np.array(updates, dtype=np.int64),
        "training.episodes": np.array(episodes, dtype=np.int64),
        "training.recent_episodes": np.array(list(recent), dtype=np.float64).reshape(
            -1, 2
        ),
    }


def counters_from_state(
    state: Mapping[str, np.ndarray],
) -> tuple[int, int, list[tuple[float, int]], list[float]]:
    """Inverse of `counters_state`."""
    recent = state["training.recent_episodes"]
    return (
        int(state["training.update"]),
        int(state["training.episodes"]),
        [(float(row[0]), int(row[1])) for row in recent],
        list(map(float, state.get("training.recent_successes", ()))),
    )


def return_to(trainer: Any, before: tuple) -> None:
    """Make every byte of `get_state` what it was at `mark`."""
    agent, collector, of_moments, discounted, counts, recent, costs = before
    trainer.return_scaler.discounted = discounted
    if trainer.costs is not None:
        trainer.costs.return_to(costs)
    trainer.agent.restore(agent)
    trainer.collector.return_to(collector)
    moments = trainer.return_scaler.moments
    moments.count, moments.mean, moments.squared_deviations = of_moments
    trainer.update_count, trainer.episode_count = counts
    trainer.recent, trainer.successes = recent
