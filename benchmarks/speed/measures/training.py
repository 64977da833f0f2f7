"""Measures whole training iterations, split into acting, stepping and learning."""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import time
from typing import Any, Protocol

from benchmarks.speed.cell import Cell
from benchmarks.speed.subjects import CG_ITERATIONS, EPOCHS, MINIBATCH, SHRINKING
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.training.trainer import Trainer


BATCH = 2_048
# Of each of very many environments: their batches are larger.
LEAST_STEPS = 4
WARM_UP = 2
LEAST_ITERATIONS = 3


class Run(Protocol):
    """A training run that goes on by one iteration: a rollout and an update."""

    def iterate(self) -> None:
        """One rollout of `BATCH` steps over all environments, one update."""
        ...

    def parts(self) -> tuple[float, float]:
        """Seconds spent stepping environments and learning, since the start."""
        ...


class _Clock:
    """Sums the time spent in a method that goes on doing what it did."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds = 0.0
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)


def training_config(env_id: str, num_envs: int, **fields: Any) -> TrainConfig:
    """The hyperparameters that everyone is given; `fields` of the run besides."""
    return TrainConfig(
        env_id=env_id,
        num_envs=num_envs,
        rollout_steps=max(LEAST_STEPS, BATCH // num_envs),
        normalize_observations=False,
        scale_returns=False,
        agent=TRPOConfig(
            cg_iters=CG_ITERATIONS,
            value_epochs=EPOCHS,
            value_minibatch_size=MINIBATCH,
            backtrack_coeff=SHRINKING,
        ),
        **fields,
    )


class OurRun:
    """`trpo.Trainer` without normalisation, which the peer doesn't have either."""

    def __init__(self, cell: Cell) -> None:
        backend, _, vectorization = cell.subject.partition("-")
        self._trainer = Trainer(
            training_config(
                cell.env_id, cell.num_envs, backend=backend, device=cell.device,
                vectorization=vectorization or "sync",
            )
        )  # fmt: skip
        self._stepping = _Clock(self._trainer.env, "step")
        self._learning = 0.0

    def iterate(self) -> None:
        """One rollout, one update."""
        metrics = self._trainer.train_once().metrics
        self._learning += metrics["time/learning_seconds"]

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping.seconds, self._learning


class StableBaselinesRun:
    """sb3-contrib's `learn` on its own vector of environments in one process."""

    def __init__(self, cell: Cell) -> None:
        from sb3_contrib import TRPO
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.logger import configure

        env = make_vec_env(cell.env_id, cell.num_envs, seed=0)
        defaults = TRPOConfig()
        self._model = TRPO(
            "MlpPolicy", env, learning_rate=defaults.value_lr, device=cell.device,
            n_steps=BATCH // cell.num_envs, batch_size=MINIBATCH, seed=0,
            cg_max_steps=CG_ITERATIONS, cg_damping=defaults.cg_damping,
            line_search_shrinking_factor=SHRINKING, n_critic_updates=EPOCHS,
            policy_kwargs={"net_arch": list(defaults.policy_layer_sizes)},
        )  # fmt: skip
        self._model.set_logger(configure(None, []))
        self._stepping = _Clock(self._model.env, "step")
        self._learning = _Clock(self._model, "train")

    def iterate(self) -> None:
        """One rollout, one update."""
        self._model.learn(BATCH, reset_num_timesteps=False)

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping.seconds, self._learning.seconds


def measure_training(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Environment steps per second of whole iterations after warm-up.

    Returns:
        `steps_per_second`, and the `acting`, `stepping` and `learning` seconds of one
        iteration: acting is what the rollout spends outside of the environments.
    """
    run: Run = (
        StableBaselinesRun(cell) if cell.subject == "sb3-contrib" else OurRun(cell)
    )
    for _ in range(WARM_UP):
        run.iterate()
    stepping, learning = run.parts()
    start, count = time.perf_counter(), 0
    # An iteration takes seconds: four times the budget of an update's cell.
    while count < LEAST_ITERATIONS or (
        time.perf_counter() - start < 4 * settings["seconds"]
    ):
        run.iterate()
        count += 1
    whole = time.perf_counter() - start
    stepping, learning = (
        after - before
        for after, before in zip(run.parts(), (stepping, learning), strict=True)
    )
    return {
        "steps_per_second": count * BATCH / whole,
        "iterations": count,
        "acting": (whole - stepping - learning) / count,
        "stepping": stepping / count,
        "learning": learning / count,
    }
