"""Measures whole training iterations, split into acting, stepping and learning."""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

from benchmarks.speed.cell import Cell
from benchmarks.speed.subjects import CG_ITERATIONS, EPOCHS, MINIBATCH, SHRINKING
from trpo.cli.pace import Clock
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.training.trainer import Trainer


BATCH = 2_048
# Of each of very many environments: their batches are larger.
LEAST_STEPS = 4
WARM_UP = 2
LEAST_ITERATIONS = 3
PROFILED = 2


class Run(Protocol):
    """A training run that goes on by one iteration: a rollout and an update."""

    def iterate(self) -> None:
        """One rollout of `BATCH` steps over all environments, one update."""
        ...

    def parts(self) -> tuple[float, float]:
        """Seconds spent stepping environments and learning, since the start."""
        ...


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
        self._stepping = Clock(self._trainer.env, "step")
        self._learning = 0.0

    def iterate(self) -> None:
        """One rollout, one update."""
        metrics = self._trainer.train_once().metrics
        self._learning += metrics["time/learning_seconds"]

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping.seconds, self._learning

    def profile(self) -> dict[str, float]:
        """Microseconds of a step by part of the acting; clocks take some themselves."""
        from trpo.rollout import acting, collector

        whole = Clock(self._trainer.collector, "collect")
        clocks = {
            "policy": [Clock(kind, "act") for kind in
                       (acting.Actor, acting.HostActor)],
            "log-probabilities and values": [Clock(acting.Actor, "evaluated")],
            "values at ends": [Clock(acting.Actor, "value")],
            "records": [Clock(collector.Columns, "write")],
        }  # fmt: skip
        advancing = Clock(self._trainer.collector, "advance")
        stepping = self._stepping.seconds
        for _ in range(PROFILED):
            self.iterate()
        stepping = self._stepping.seconds - stepping
        parts = {n: sum(c.seconds for c in of) for n, of in clocks.items()}
        parts["checks and episodes"] = advancing.seconds - stepping
        parts["rest"] = whole.seconds - stepping - sum(parts.values())
        steps = PROFILED * self._trainer.config.rollout_steps
        return {name: 1e6 * seconds / steps for name, seconds in parts.items()}

    def floor(self) -> dict[str, float]:
        """Microseconds of a step by what no loop can do without.

        Each alone, again and again: its code and numbers are in the processor's caches,
        where between two steps of environments they are not.
        """
        from trpo.rollout import collector, transitions

        agent, steps = self._trainer.agent, self._trainer.config.rollout_steps
        rollout = self._trainer.collector.collect(agent, steps)
        obs, actions = rollout.obs[0], rollout.actions[0]
        policy, noise = agent.host_policy(len(obs)), agent.draw_noise(len(obs))
        assert policy is not None
        columns = collector.Columns(steps, len(obs))
        row = {"obs": obs, "actions": actions, "rewards": rollout.rewards[0]}
        flat = (a.reshape(-1, a.shape[-1]) for a in (rollout.obs, rollout.actions))
        evaluate = functools.partial(agent.evaluate_actions, *flat)

        def test() -> None:
            for numbers in row.values():
                transitions.are_within(numbers, transitions.FINITE)

        microseconds = {
            "policy": _often(lambda: policy.act(obs, noise, None)),
            "noise": _often(lambda: agent.draw_noise(len(obs))),
            "three tests": _often(test),
            "records": _often(lambda: columns.write(0, row)),
        }
        whole = _often(evaluate, LEAST_ITERATIONS)
        return microseconds | {"log-probabilities and values": whole / steps}


def _often(call: Callable[[], object], count: int = 500) -> float:
    """Microseconds of a call, the median of five times as many in a row."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            call()
        times.append(1e6 * (time.perf_counter() - start) / count)
    return statistics.median(times)


class StableBaselinesRun:
    """`learn` of a peer, on Stable-Baselines3's vector of environments.

    Args:
        cell: What to measure.
        algorithm: sb3-contrib's TRPO or SBX's PPO.
        options: Its own.
    """

    def __init__(self, cell: Cell, algorithm: Any, **options: Any) -> None:
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.logger import configure

        env = make_vec_env(cell.env_id, cell.num_envs, seed=0)
        defaults = TRPOConfig()
        self._model = algorithm(
            "MlpPolicy", env, learning_rate=defaults.value_lr, device=cell.device,
            n_steps=BATCH // cell.num_envs, batch_size=MINIBATCH, seed=0,
            policy_kwargs={"net_arch": list(defaults.policy_layer_sizes)}, **options,
        )  # fmt: skip
        self._model.set_logger(configure(None, []))
        self._stepping = Clock(self._model.env, "step")
        self._learning = Clock(self._model, "train")

    def iterate(self) -> None:
        """One rollout, one update."""
        self._model.learn(BATCH, reset_num_timesteps=False)

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping.seconds, self._learning.seconds


def _stable_baselines(cell: Cell) -> Run:
    from sb3_contrib import TRPO

    return StableBaselinesRun(
        cell, TRPO, cg_max_steps=CG_ITERATIONS, cg_damping=TRPOConfig().cg_damping,
        line_search_shrinking_factor=SHRINKING, n_critic_updates=EPOCHS,
    )  # fmt: skip


def _sbx(cell: Cell) -> Run:
    from sbx import PPO

    return StableBaselinesRun(cell, PPO, n_epochs=EPOCHS)


class TianshouRun:
    """Tianshou's TRPO, whose critic takes its epochs on the whole batch."""

    def __init__(self, cell: Cell) -> None:
        import gymnasium
        from tianshou.data import Collector, VectorReplayBuffer
        from tianshou.env import DummyVectorEnv

        from benchmarks.speed.peers import tianshou_trpo

        makers = [lambda: gymnasium.make(cell.env_id)] * cell.num_envs
        env = DummyVectorEnv(makers)
        one = gymnasium.make(cell.env_id)
        assert one.observation_space.shape
        assert one.action_space.shape
        self._algorithm, _, _ = tianshou_trpo(
            one.observation_space.shape[0], one.action_space.shape[0],
            TRPOConfig().policy_layer_sizes, one.action_space, cell.device, EPOCHS,
        )  # fmt: skip
        buffer = VectorReplayBuffer(BATCH, cell.num_envs)
        self._collector = Collector(self._algorithm, env, buffer)
        self._collector.reset()
        self._stepping = Clock(env, "step")
        self._learning = Clock(self._algorithm, "update")

    def iterate(self) -> None:
        """One rollout, one update."""
        from tianshou.utils.torch_utils import policy_within_training_step

        with policy_within_training_step(self._algorithm.policy):
            self._collector.collect(n_step=BATCH)
            self._algorithm.update(self._collector.buffer, batch_size=None, repeat=1)
        self._collector.reset_buffer(keep_statistics=True)

    def parts(self) -> tuple[float, float]:
        """Seconds stepping and learning."""
        return self._stepping.seconds, self._learning.seconds


def _cleanrl(cell: Cell) -> Run:
    from benchmarks.speed.measures.ppo_loop import PPOLoop

    return PPOLoop(cell.env_id, cell.num_envs, BATCH // cell.num_envs)


PEERS: dict[str, Callable[[Cell], Run]] = {
    "sb3-contrib": _stable_baselines,
    "sbx": _sbx,
    "tianshou": TianshouRun,
    "cleanrl": _cleanrl,
}


def measure_training(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Environment steps per second of whole iterations after warm-up.

    Returns:
        `steps_per_second`, and the `acting`, `stepping` and `learning` seconds of one
        iteration: acting is what is neither stepping nor learning. Of ours also
        `profile`, microseconds of a step by part of the acting, taken afterwards; and
        `floor`, of what no loop can do without.
    """
    run = PEERS.get(cell.subject, OurRun)(cell)
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
    ours = {}
    if isinstance(run, OurRun):
        ours = {"profile": run.profile(), "floor": run.floor()}
    return {
        "steps_per_second": count * BATCH / whole,
        "iterations": count,
        "acting": (whole - stepping - learning) / count,
        "stepping": stepping / count,
        "learning": learning / count,
        **ours,
    }
