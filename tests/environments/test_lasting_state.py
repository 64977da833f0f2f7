"""What outlives an episode is no part of a checkpoint, and a resumed run names it."""

import collections
import contextlib
import io
import os
import signal
import time
import uuid
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
)
from rich.console import Console

from tests.support.counting_environments import Counter
from trpo.common.terminal import Terminal
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.environments.lasting_state import lasting_values, not_restored
from trpo.environments.make import make_vector_environment
from trpo.environments.source import EnvironmentSource
from trpo.rollout.collector import RolloutCollector
from trpo.runs.directory import RunDirectory
from trpo.runs.driver import Driver
from trpo.runs.members import NamedMember
from trpo.training.trainer import Trainer


LONG = 410  # More than two episodes of Pendulum-v1: a resumed run resets twice.


class Curriculum(gymnasium.Wrapper):
    """Each episode is a level higher; some of what it holds is of no account."""

    def __init__(self, env):
        super().__init__(env)
        self.level = 0
        self.history = collections.deque(maxlen=3)
        self.token = uuid.uuid4().hex
        self.last_reset, self.reset_seconds, self.reset_ns = 0.0, 0.0, 0
        self.stamps = []
        self.random = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        self.last_reset, self.reset_ns = time.time(), time.time_ns()
        self.stamps = [time.perf_counter(), time.monotonic()]
        self.reset_seconds += time.thread_time() + 1e-9
        self.level += 1
        self.history.append({"level": self.level, "draw": self.random.random()})
        return super().reset(seed=seed, options=options)


class Hostile(gymnasium.Wrapper):
    """Holds what is not to be read, by methods that must not run."""

    def __init__(self, env):
        super().__init__(env)
        self.count = 0
        self.nested: list = [0]
        self.nested.append(self.nested)
        self.large = np.zeros(2**20)
        self.many = list(range(10_000))
        self.objects = np.array([self, None], dtype=object)
        self.text = Raising("text")
        self.array = RaisingArray((3,))
        self.thing = Thing()

    def reset(self, *, seed=None, options=None):
        self.count += 1
        self.large = self.large + 1
        return super().reset(seed=seed, options=options)

    @property
    def level(self):
        raise SystemExit("a property was read")


class Raising(str):
    def __repr__(self):
        raise SystemExit("repr was called")

    def __len__(self):
        raise SystemExit("len was called")


class RaisingArray(np.ndarray):
    def tobytes(self, *_):
        raise SystemExit("tobytes was called")

    @property
    def nbytes(self):
        raise SystemExit("nbytes was read")


class Thing:
    def __getattribute__(self, name):
        raise SystemExit(f"{name} was read")


MADE = {
    "Curriculum": lambda: Curriculum(gymnasium.make("Pendulum-v1")),
    "Statistics": lambda: RecordEpisodeStatistics(gymnasium.make("CartPole-v1")),
    "NormalizedRewards": lambda: NormalizeReward(gymnasium.make("Pendulum-v1")),
    "NormalizedObservations": lambda: NormalizeObservation(
        gymnasium.make("CartPole-v1")
    ),
    "Hostile": lambda: Hostile(Counter()),
}


def make(kind, **_):
    """By name: workers import it."""
    return MADE[kind]()


for _kind in MADE:
    gymnasium.register(f"TrpoTest/{_kind}-v0", make, kwargs={"kind": _kind})

NAMED = {
    "Pendulum-v1": [],
    "CartPole-v1": [],
    "HalfCheetah-v5": [],
    "TrpoTest/Statistics-v0": [],
    "TrpoTest/Curriculum-v0": [
        "Curriculum.history", "Curriculum.level", "Curriculum.random",
    ],
    "TrpoTest/NormalizedRewards-v0": [
        "NormalizeReward.discounted_reward", "NormalizeReward.return_rms",
    ],
    "TrpoTest/NormalizedObservations-v0": ["NormalizeObservation.obs_rms"],
}  # fmt: skip


def played(env_id, vectorization, steps, state=None):
    """A collector after some steps, or after a state is restored; it is closed."""
    source = EnvironmentSource(env_id, modules=(__name__,))
    env = make_vector_environment(source, 2, seed=1, vectorization=vectorization)
    with contextlib.closing(env):
        collector = RolloutCollector(env)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            if isinstance(env.single_action_space, gymnasium.spaces.Discrete):
                actions = rng.integers(0, 2, (2, 1)).astype(np.float32)
            else:
                shape = env.action_space.shape
                actions = rng.uniform(-1, 1, shape).astype(np.float32)
            collector.advance(actions)
        if state is not None:
            collector.set_state(state)
        return collector, collector.lasting(changed=True), collector.get_state()


@pytest.mark.parametrize(
    ("env_id", "vectorization"),
    [
        *((env_id, "sync") for env_id in NAMED),
        *((env_id, "async") for env_id in list(NAMED)[::2]),
    ],
)
def test_what_a_replay_does_not_bring_back_is_named_and_nothing_else(
    env_id, vectorization
):
    steps = 20 if env_id == "HalfCheetah-v5" else LONG
    _, saved, state = played(env_id, vectorization, steps)
    resumed, _, _ = played(env_id, vectorization, 0, state)
    assert sorted(not_restored(saved, resumed.replayed)) == NAMED[env_id]


@pytest.mark.parametrize("steps", [0, 1, LONG])
def test_at_any_step_of_an_episode_nothing_is_named_without_a_reason(steps):
    _, saved, state = played("Pendulum-v1", "sync", steps)
    resumed, _, _ = played("Pendulum-v1", "sync", 0, state)
    for values in resumed.replayed:
        assert values is not None
        assert values["TimeLimit._elapsed_steps"]
    assert not_restored(saved, resumed.replayed) == []


def test_reading_runs_nobodys_code_and_changes_nothing():
    env = make("Hostile")
    before = {name: id(value) for name, value in vars(env).items()}
    first = lasting_values(env)
    assert lasting_values(env) == first
    assert {name: id(value) for name, value in vars(env).items()} == before
    env.reset(seed=1)
    changed = {n for n, value in lasting_values(env).items() if first.get(n) != value}
    # What is too large to be read counts as unchanged.
    assert "Hostile.count" in changed
    assert "Hostile.large" not in changed


def test_an_object_that_refuses_to_be_read_stops_no_probe():
    class Refusing(gymnasium.Wrapper):
        def __getattribute__(self, name):
            raise SystemExit(f"{name} was read")

    env = Counter()
    refusing = Refusing.__new__(Refusing)
    object.__setattr__(refusing, "env", env)
    assert set(lasting_values(refusing)) == set(lasting_values(env))


def test_two_wrappers_of_one_class_are_told_apart():
    env = Curriculum(Curriculum(Counter()))
    assert {"Curriculum.level", "Curriculum(2).level"} <= set(lasting_values(env))


def test_a_resumed_run_says_what_was_not_restored_once(tmp_path):
    agent = TRPOConfig(policy_layer_sizes=(4,), critic_layer_sizes=(4,))
    config = TrainConfig(
        env_id="TrpoTest/Curriculum-v0", backend="torch", num_envs=2,
        rollout_steps=LONG, total_steps=2 * LONG, agent=agent, modules=(__name__,),
    )  # fmt: skip
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(config)

    def made():
        file = io.StringIO()
        terminal = Terminal(Console(file=file, width=10_000))
        whole = [NamedMember("", config, {})]
        driver = Driver(config, directory, whole, lambda: Trainer(config), terminal)
        driver.subject = driver.make()
        return file, driver

    _, driver = made()
    with contextlib.closing(driver.subject):
        driver.subject.run()
        driver.write_checkpoints()
    checkpoint, _ = directory.load()
    # A stranger's.
    checkpoint.metadata["lasting"][1]["\x1b[31m" + 1000 * "long"] = 1
    file, driver = made()
    with contextlib.closing(driver.subject):
        driver.restore([checkpoint])
    said = file.getvalue()
    (line,) = [line for line in said.splitlines() if "not restored" in line]
    names = "`Curriculum.history`, `Curriculum.level`, `Curriculum.random`, `\\x1b[31ml"
    assert line.startswith(f"not restored: {names}")
    assert len(line) < 600
    assert "\x1b" not in said


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_between_updates_alone_environments_are_where_the_state_says(backend):
    agent = TRPOConfig(policy_layer_sizes=(4,), critic_layer_sizes=(4,))
    config = TrainConfig(
        env_id="Pendulum-v1", backend=backend, num_envs=1, rollout_steps=8,
        total_steps=16, agent=agent,
    )  # fmt: skip
    trainer = Trainer(config)
    with contextlib.closing(trainer):
        trainer.train_once()
        assert trainer.note(trainer.get_state())["lasting"] != []

        def interrupt(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.train_once(interrupt)
        assert trainer.note(trainer.get_state())["lasting"] == []


def test_checkpoints_without_a_probe_are_not_compared():
    now = [{"A.b": "1"}, None]
    assert not_restored([{"A.b": "1"}, {"A.c": "2"}], now) == []
    assert not_restored([{"A.b": "2", "A.c": "2"}], now) == ["A.b", "A.c"]
    for strange in (None, 7, "A", [7, None], [[]], {"A.b": "2"}):
        assert not_restored(strange, now) == []


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_worker_that_does_not_answer_stops_no_probe(how):
    env: Any = make_vector_environment(
        "Pendulum-v1", 2, seed=1, vectorization="async", timeout=5.0
    )
    with contextlib.closing(env):
        collector = RolloutCollector(env)
        pid = env._workers.pid(1)
        os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        time.sleep(0.05)
        start = time.monotonic()
        first, second = collector.lasting(changed=True)
        assert first is not None
        assert second is None
        assert time.monotonic() - start < 4.0
        if how == "stopped":
            os.kill(pid, signal.SIGCONT)
            collector.advance(np.zeros((2, 1), np.float32))  # As if nothing had been.
            assert None not in collector.lasting(changed=True)
            return
        with pytest.raises(Exception, match="killed by signal 9"):
            collector.advance(np.zeros((2, 1), np.float32))
