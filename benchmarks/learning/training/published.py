"""Published returns that the study's table stands beside, with their protocols."""

from typing import NamedTuple


class Published(NamedTuple):
    """The best published mean of a TRPO at a budget of steps.

    Attributes:
        version: version of the environment that it was measured on.
        steps: environment steps of training.
        mean: mean return.
        std: what its source gives after ±, None if nothing.
        source: key of `PROTOCOLS`.
    """

    version: str
    steps: int
    mean: float
    std: float | None
    source: str


PROTOCOLS = {
    "tianshou": "Tianshou, `examples/mujoco/README.md`: 10 seeds, the **best** average "
    "return over training, gym 0.17.3",
    "tianshou-npg": "Tianshou's natural policy gradient, which is no TRPO but its best "
    "relative there; same protocol",
    "sb3": "Stable-Baselines3-Contrib, `docs/modules/trpo.md`: 3 seeds, RL "
    "Baselines3 Zoo's settings, MuJoCo 2.1.0",
    "baselines": "OpenAI Baselines, `benchmarks_mujoco1M.htm`, `trpo_mpi`: 6 seeds",
    "zoo": "RL Baselines3 Zoo, `benchmark.md`: one agent, about 150 episodes",
}

PUBLISHED = {
    "HalfCheetah-v5": Published("v3", 1_000_000, 4471.2, 804.9, "tianshou"),
    "Hopper-v5": Published("v3", 1_000_000, 3372.0, 215.0, "sb3"),
    "Walker2d-v5": Published("v3", 1_000_000, 4502.0, 234.0, "sb3"),
    "Ant-v5": Published("v3", 1_000_000, 3554.0, 591.0, "sb3"),
    "Swimmer-v5": Published("v3", 1_000_000, 359.0, 2.0, "sb3"),
    "Humanoid-v5": Published("v3", 1_000_000, 810.1, 126.1, "tianshou"),
    "Reacher-v5": Published("v2", 1_000_000, -4.82, None, "baselines"),
    "InvertedPendulum-v5": Published("v2", 1_000_000, 1000.0, 0.0, "tianshou"),
    "InvertedDoublePendulum-v5": Published(
        "v2", 1_000_000, 9243.2, 276.0, "tianshou-npg"
    ),
    "CartPole-v1": Published("v1", 100_000, 500.0, 0.0, "zoo"),
    "Acrobot-v1": Published("v1", 100_000, -83.1, 18.6, "zoo"),
    "LunarLander-v3": Published("v2", 200_000, 133.2, 112.2, "zoo"),
    "LunarLanderContinuous-v3": Published("v2", 200_000, 262.4, 21.4, "zoo"),
    "MountainCarContinuous-v0": Published("v0", 50_000, 92.5, 0.4, "zoo"),
    "Pendulum-v1": Published("v1", 100_000, -174.6, 127.6, "zoo"),
}
