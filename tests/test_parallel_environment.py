"""Environments shared out over processes: the same results, errors, no leftovers."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.test_rollout import LinearAgent
from trpo.config import TrainConfig
from trpo.environment_worker import WorkerDiedError
from trpo.environments import make_environment, make_vector_environment
from trpo.parallel_environment import ParallelVectorEnv
from trpo.rollout import RolloutCollector
from trpo.training import Trainer


# With the module that registers them, for the workers.
COUNTER = "tests.environments:TrpoTest/Counter-v0"
REUSED_BUFFER = "tests.environments:TrpoTest/CounterReusedBuffer-v0"
FIELDS = ("obs", "rewards", "terminated", "truncated", "next_values")


def makers(num_envs=5, env_id=COUNTER):
    return [
        functools.partial(make_environment, env_id, seed=5, env_index=i)
        for i in range(num_envs)
    ]


@pytest.fixture
def parallel():
    opened = []

    def build(*args, num_processes=2, **kwargs):
        opened.append(ParallelVectorEnv(makers(*args, **kwargs), num_processes))
        return opened[-1]

    yield build
    for env in opened:
        env.close()


def sync(*args, **kwargs):
    mode = AutoresetMode.SAME_STEP
    return SyncVectorEnv(makers(*args, **kwargs), autoreset_mode=mode)


def processes(env):
    return [worker._process for worker in env._workers]


def assert_equal_rollouts(left, right):
    for name in FIELDS:
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert left.episodes == right.episodes


@pytest.mark.parametrize("num_processes", [1, 2, 3, 9])
@pytest.mark.parametrize("env_id", [COUNTER, REUSED_BUFFER])
def test_rollouts_are_those_of_one_process(parallel, num_processes, env_id):
    env = parallel(env_id=env_id, num_processes=num_processes)
    assert len(processes(env)) == min(5, num_processes) - 1
    rollout = RolloutCollector(env).collect(LinearAgent(), 60)
    one = RolloutCollector(sync(env_id=env_id)).collect(LinearAgent(), 60)
    assert len(one.episodes) > 20
    assert_equal_rollouts(rollout, one)


def test_steps_and_final_observations_are_gymnasiums(parallel):
    several, one = parallel(), sync()
    np.testing.assert_array_equal(several.reset()[0], one.reset()[0])
    assert several.observation_space == one.observation_space
    assert several.action_space == one.action_space
    actions = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    ended = 0
    for _ in range(20):
        got, expected = several.step(actions), one.step(actions)
        for a, b in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        done = got[2] | got[3]
        ended += done.sum()
        assert ("final_obs" in got[4]) == done.any()
        for i in np.flatnonzero(done):
            assert got[4]["_final_obs"][i]
            np.testing.assert_array_equal(
                got[4]["final_obs"][i], expected[4]["final_obs"][i]
            )
    assert ended > 5


def test_what_a_step_returned_stays_as_it_was(parallel):
    env = parallel()
    env.reset()
    actions = np.zeros((5, 1), dtype=np.float32)
    first = env.step(actions)
    kept = [array.copy() for array in first[:4]]
    env.step(actions)
    for array, before in zip(first[:4], kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_mujoco_is_the_same_in_a_worker(parallel):
    pytest.importorskip("mujoco")
    env = parallel(num_envs=4, env_id="HalfCheetah-v5")
    one = sync(num_envs=4, env_id="HalfCheetah-v5")
    env.reset(), one.reset()
    rng = np.random.default_rng(0)
    for _ in range(50):
        actions = rng.uniform(-1, 1, (4, 6)).astype(np.float32)
        for a, b in zip(env.step(actions)[:4], one.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_open_episodes_move_between_vectorizations(parallel):
    collector, agent = RolloutCollector(sync()), LinearAgent()
    collector.collect(agent, 17)
    state, calls = collector.get_state(), agent.calls
    straight = collector.collect(agent, 23)
    again = RolloutCollector(parallel())
    assert again.set_state(state) == ()
    agent.calls = calls
    assert_equal_rollouts(again.collect(agent, 23), straight)


@pytest.mark.parametrize("index", [0, 4])
def test_an_error_names_its_environment_and_leaves_no_one_waiting(parallel, index):
    env = parallel()
    env.reset()
    actions = np.zeros((5, 1), dtype=np.float32)
    actions[index] = 3.0
    with pytest.raises(AssertionError, match="not clipped") as caught:
        env.step(actions)
    assert f"Raised by environment {index}." in caught.value.__notes__
    env.reset()
    assert env.step(np.zeros((5, 1), dtype=np.float32))[0].shape == (5, 2)


def test_of_two_errors_one_is_raised_and_none_is_left_for_the_next_step(parallel):
    env = parallel()
    env.reset()
    with pytest.raises(AssertionError):
        env.step(np.full((5, 1), 3.0, dtype=np.float32))
    env.reset()
    env.step(np.zeros((5, 1), dtype=np.float32))


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def fails_in_a_worker(index, error):
    if index == 4:
        raise error
    return make_environment(COUNTER, seed=5, env_index=index)


def test_an_environment_that_a_worker_can_not_make_is_reported():
    made = [
        functools.partial(fails_in_a_worker, i, ValueError("no such thing"))
        for i in range(5)
    ]
    with pytest.raises(ValueError, match="no such thing") as caught:
        ParallelVectorEnv(made, 2)
    assert "fails_in_a_worker" in caught.value.__notes__[-1]


def raise_unpicklable():
    raise Unpicklable("oh", "no")


def test_an_error_that_can_not_be_sent_is_described():
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Unpicklable("oh", "no")))
    made = [*makers(1), raise_unpicklable]
    with pytest.raises(RuntimeError, match="Unpicklable"):
        ParallelVectorEnv(made, 2)


def test_long_messages_and_long_errors_do_not_block(parallel):
    env = parallel()
    env.reset(options={"unused": bytes(1_000_000)})
    with pytest.raises(AttributeError):
        env.reset(options={"restore_episode": "x" * 1_000_000})
    env.reset()


def test_closing_ends_the_workers(parallel):
    env = parallel(num_processes=3)
    env.reset()
    workers = processes(env)
    assert all(worker.is_alive() for worker in workers)
    env.close()
    assert [worker.exitcode for worker in workers] == [0, 0]
    env.close()


def test_a_worker_that_died_is_reported(parallel):
    env = parallel()
    env.reset()
    os.kill(processes(env)[0].pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match=r"environments 2 to 4.*-9"):
        env.step(np.zeros((5, 1), dtype=np.float32))
    with pytest.raises(WorkerDiedError):
        env.reset()


ORPHAN = """
import functools, os, signal
from trpo.environments import make_environment
from trpo.parallel_environment import ParallelVectorEnv
if __name__ == "__main__":
    make = functools.partial(make_environment, "Pendulum-v1", seed=0)
    env = ParallelVectorEnv([make, make], 2)
    print(env._workers[0]._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    path = tmp_path / "orphan.py"
    path.write_text(ORPHAN)
    # Not by a pipe: the worker holds it, too, and would be waited for.
    with (tmp_path / "pid").open("w") as out:
        subprocess.run([sys.executable, str(path)], stdout=out, check=False)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker went on")


def test_training_is_the_same():
    states = []
    for vectorization in ("sync", "parallel"):
        config = TrainConfig(
            env_id="Pendulum-v1",
            backend="torch",
            num_envs=3,
            rollout_steps=220,
            vectorization=vectorization,
        )
        trainer = Trainer(config)
        try:
            trainer.train_once()
            states.append(trainer.get_state())
        finally:
            trainer.close()
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


def test_it_is_one_of_the_vectorizations():
    env = make_vector_environment("Pendulum-v1", 2, seed=5, vectorization="parallel")
    env.close()
    assert isinstance(env, ParallelVectorEnv)
