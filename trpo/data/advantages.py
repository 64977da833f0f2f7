"""Generalized advantage estimation, with termination and truncation kept apart."""

import numpy as np

from trpo.distributed.ranks import ALONE, Alone


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns of B environments over T steps.

    delta_t = r_t + gamma * V(s_{t+1}) * (1 - terminated_t) - V(s_t) and
    A_t = delta_t + gamma * lambda * (1 - done_t) * A_{t+1} (Schulman et al. 2016,
    eqs. 10 and 16). A terminal state has value 0; a truncated episode is worth what
    the critic says of its final observation; neither leaks into the next episode.

    Args:
        rewards: [T, B] r_t.
        values: [T, B] V(s_t).
        next_values: [T, B] V(s_{t+1}), of the final observation where an episode ends.
        terminated: [T, B] whether s_{t+1} is terminal.
        truncated: [T, B] whether the episode was cut off after step t.
        gamma: Discount factor.
        gae_lambda: Weight lambda.

    Returns:
        Advantages [T, B] and returns [T, B], the advantages plus `values`; float64.
    """
    shapes = {
        name: np.shape(array)
        for name, array in {
            "rewards": rewards,
            "values": values,
            "next_values": next_values,
            "terminated": terminated,
            "truncated": truncated,
        }.items()
    }
    if len(set(shapes.values())) != 1 or len(shapes["rewards"]) != 2:
        raise ValueError(
            f"`rewards`: expected five arrays of one shape [T, B], got {shapes}."
        )
    values = np.asarray(values, dtype=np.float64)
    live = ~np.asarray(terminated, dtype=bool)
    going_on = live & ~np.asarray(truncated, dtype=bool)
    deltas = rewards + gamma * np.where(live, next_values, 0.0) - values
    weights = gamma * gae_lambda * going_on
    advantages = np.zeros_like(deltas)
    carry = np.zeros(deltas.shape[1])
    for t in range(len(deltas) - 1, -1, -1):
        carry = deltas[t] + weights[t] * carry
        advantages[t] = carry
    return advantages, advantages + values


def standard_deviation(values: np.ndarray, ranks: Alone = ALONE) -> float:
    """Population standard deviation of all ranks' numbers."""
    if ranks.size == 1:
        return float(values.std())
    return float(np.sqrt(ranks.mean((values - ranks.mean(values)) ** 2)))


def normalize_advantages(advantages: np.ndarray, ranks: Alone = ALONE) -> np.ndarray:
    """Advantages with mean 0 and population standard deviation 1; [N] or any shape.

    Mean and deviation are of all ranks' advantages, which must all call it.

    Equal advantages carry no preference and become exactly zero, where dividing by a
    rounding-error deviation would blow them up into a full trust-region step.
    """
    advantages = np.asarray(advantages, dtype=np.float64)
    centred = advantages - ranks.mean(advantages)
    largest = ranks.largest(np.max(np.abs(centred), initial=0.0))
    before = ranks.largest(np.max(np.abs(advantages), initial=0.0))
    if not largest > 1e-12 * before:
        return np.zeros_like(advantages)
    scaled = centred / largest  # Squares of huge advantages would overflow.
    return scaled / np.sqrt(ranks.mean(scaled**2))
