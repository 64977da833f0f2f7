"""Ids that Gymnasium does not know: environments with costs, and Brax and Playground.

The environments with costs come with this package. `brax/ant` and
`playground/CartpoleBalance` are registered when a configuration names them.
"""

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


LIBRARIES = ("brax", "playground")
MAX_EPISODE_STEPS = 1000
"""Both packages' own default."""


def register_physics(env_id: str) -> None:
    """Register the environment if its id is one of Brax or Playground."""
    library, _, name = env_id.partition("/")
    if library in LIBRARIES and name and env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point="trpo_jax.loop.physics_environments:PhysicsEnv",
            max_episode_steps=MAX_EPISODE_STEPS,
            # The checker calls for arrays of NumPy.
            disable_env_checker=True,
            kwargs={"library": library, "name": name},
        )
