"""Registers the environments with costs that come with this package."""

import gymnasium

from trpo import point_circle, speed_limit


def register_cost_environments() -> None:
    """Register them once; Gymnasium imports nothing of them before they are made."""
    if point_circle.ENV_ID in gymnasium.registry:
        return
    gymnasium.register(
        point_circle.ENV_ID,
        entry_point="trpo.point_circle:PointCircle",
        max_episode_steps=point_circle.STEPS,
    )
    for env_id, (base, limit) in speed_limit.LIMITS.items():
        gymnasium.register(
            env_id,
            entry_point="trpo.speed_limit:make_speed_limited",
            kwargs={"base": base, "limit": limit},
        )
