"""Transitions of several environments over time."""

from typing import NamedTuple

import numpy as np

from trpo.data.hidden_state import Memory


class Rollout(NamedTuple):
    """Transitions of B environments over T steps, in order of time.

    Attributes:
        obs: [T, B, obs_dim] observation s_t, raw (not normalised).
        actions: [T, B, act_dim] action as sampled, before clipping to the bounds.
        log_probs: [T, B] log-probability of the action.
        values: [T, B] critic's V(s_t), in units of scaled return.
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        rewards: [T, B] raw rewards.
        terminated: [T, B] the episode ended in a terminal state.
        truncated: [T, B] the episode was cut off, by a time limit for example.
        valid: [T, B] False where an environment only reset itself (autoreset mode
            NEXT_STEP) and the entry is no transition.
        episodes: finished episodes in order of time.
        action_masks: [T, B, options] True where an option could be taken; None where
            the environment forbids nothing.
        starts: [T, B] True where s_t is the first observation of an episode.
        memory: a recurrent agent's hidden states when the rollout began; else None.
        dropped_steps: steps left out because their episode had numbers not finite.
        restarts: environments that failed and were replaced.
        costs: for an agent with a limit on costs; else None.
        episode_steps: of each finished episode, the step that ended it.
    """

    obs: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    episodes: tuple["Episode", ...]
    action_masks: np.ndarray | None = None
    starts: np.ndarray | None = None
    memory: Memory | None = None
    dropped_steps: int = 0
    restarts: int = 0
    episode_steps: tuple[int, ...] = ()
    costs: "RolloutCosts | None" = None


class RolloutCosts(NamedTuple):
    """Costs of a rollout's steps, and the cost critic's values of them.

    Attributes:
        costs: [T, B] raw costs.
        values: [T, B] cost critic's V(s_t), in units of scaled cost.
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        open_cost: mean over environments of what the episodes under way after the
            rollout have cost so far.
        open_length: mean of their steps so far.
    """

    costs: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    open_cost: float
    open_length: float


class Episode(NamedTuple):
    """One finished episode: undiscounted raw return, number of steps, and cost.

    `success` is what its last `info["is_success"]` said, None if it said nothing.
    """

    episode_return: float
    length: int
    cost: float = 0.0
    success: float | None = None
