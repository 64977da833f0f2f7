"""Ids that Gymnasium does not know: those of Brax and of MuJoCo Playground.

`brax/ant` and `playground/CartpoleBalance` are registered when a configuration names
them.
"""

import gymnasium


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
