"""Rollouts and states of all ranks of a run, put together on the host.

A training state is of the whole run, however many ranks there are: rank 0 saves it,
and any number of ranks goes on from it, each with its own environments.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trpo.data.rollout import Episode, Rollout
from trpo.distributed.ranks import Alone, concatenated


FAILURE = "failure"
ENVIRONMENT, ACTIONS = "environment.", "actions."
DISCOUNTED = ".discounted"
Arrays = Mapping[str, np.ndarray]


class AllFailedError(ValueError):
    """One rank has failed, and all know it: none is in the middle of an update."""


def together(collect: Callable[[], Rollout], ranks: Alone) -> Rollout:
    """A rollout with all ranks' episodes, in order of time, and all that was dropped.

    Its steps are this rank's own.

    Raises:
        AllFailedError: of many ranks, one's environments failed; on every rank.
    """
    if ranks.size == 1:
        return collect()
    failure, columns = None, {}
    try:
        rollout = collect()
    except Exception as error:
        failure = error
    else:
        width = len(Episode._fields)
        episodes = np.array(rollout.episodes, dtype=np.float64)
        columns = {
            "episodes": episodes.reshape(-1, width),
            "steps": np.array(rollout.episode_steps, dtype=np.int64),
            "counts": np.array([rollout.dropped_steps, rollout.restarts]),
        }
    said = "" if failure is None else f"{type(failure).__name__}: {failure}"
    columns[FAILURE] = np.frombuffer(said.encode(), dtype=np.uint8)
    parts = ranks.gather(columns)
    for rank, part in enumerate(parts):
        if part[FAILURE].size:
            text = part[FAILURE].tobytes().decode()
            raise AllFailedError(f"rank {rank}: {text}") from failure
    steps = concatenated(parts, "steps")
    # Of one step, environments in order: so they are in the ranks, and ranks in turn.
    order = np.argsort(steps, kind="stable")
    episodes = concatenated(parts, "episodes")[order]
    dropped, restarts = np.sum([part["counts"] for part in parts], axis=0)
    return rollout._replace(
        episodes=tuple(
            Episode(gain, int(length), cost, None if math.isnan(success) else success)
            for gain, length, cost, success in episodes.tolist()
        ),
        episode_steps=tuple(int(step) for step in steps[order]),
        dropped_steps=int(dropped),
        restarts=int(restarts),
    )


def rows_of(valid: np.ndarray, environments: slice, ranks: Alone) -> np.ndarray:
    """Number of each of this rank's samples among all, as in a run of one process.

    Args:
        valid: [T, B] which steps of this rank's environments are samples.
        environments: This rank's among all.
        ranks: All.
    """
    parts = ranks.gather({"valid": valid})
    everywhere = np.concatenate([part["valid"] for part in parts], axis=1)
    numbers = np.cumsum(everywhere.reshape(-1)) - 1
    return numbers.reshape(everywhere.shape)[:, environments][valid]


def whole_state(
    local_state: Arrays, first: int, digest: np.ndarray, ranks: Alone
) -> dict[str, np.ndarray]:
    """The state of the whole run from those of all ranks.

    Args:
        local_state: Of this rank; what is not of its environments is the same on all.
        first: Number of its first environment.
        digest: Of its weights, which are the same on all.
        ranks: All.
    """
    local = {n: a for n, a in local_state.items() if _is_column(n) or _is_history(n)}
    parts = ranks.gather({**local, "first": np.array(first), "digest": digest})
    different = [
        rank
        for rank, part in enumerate(parts)
        if (part["digest"] != parts[0]["digest"]).any()
    ]
    # By construction they can't: all that a rank decides by is summed over all.
    assert not different, f"ranks {different} have other weights than rank 0"
    state = dict(local_state)
    for name in list(state):
        if _is_column(name):
            state[name] = concatenated(parts, name)
        elif _is_history(name):
            del state[name]
    for part in parts:
        state |= _renumbered(part, int(part["first"]))
    return state


def every_rank(indices: tuple[int, ...], first: int, ranks: Alone) -> tuple[int, ...]:
    """All ranks' environments of these indices, by their numbers in the run."""
    parts = ranks.gather({"numbers": np.array(indices, dtype=np.int64) + first})
    return tuple(int(number) for number in concatenated(parts, "numbers"))


def part_of_state(state: Arrays, environments: slice) -> dict[str, np.ndarray]:
    """A rank's part of the state of a whole run."""
    part = {n: a for n, a in state.items() if not _is_history(n)}
    part |= {n: a[environments] for n, a in part.items() if _is_column(n)}
    histories = _renumbered(state, -environments.start)
    kept = {
        f"{ENVIRONMENT}{ACTIONS}{i}"
        for i in range(environments.stop - environments.start)
    }
    return part | {n: a for n, a in histories.items() if n in kept}


def _is_column(name: str) -> bool:
    """Whether an array has a row for each environment, of which a rank has its own."""
    of_one = name.startswith(ENVIRONMENT) and not _is_history(name)
    return of_one or name.endswith(DISCOUNTED)


def _is_history(name: str) -> bool:
    return name.startswith(ENVIRONMENT + ACTIONS)


def _renumbered(state: Arrays, by: int) -> dict[str, Any]:
    """Histories of actions under their environments' numbers plus `by`."""
    prefix = ENVIRONMENT + ACTIONS
    return {
        f"{prefix}{int(name.removeprefix(prefix)) + by}": array
        for name, array in state.items()
        if _is_history(name)
    }
