"""Environments in actors of a Ray cluster of this machine."""

import importlib.util
import os

import numpy as np
import pytest

from benchmarks.faults import workers
from tests.support.waiting import PATIENCE, until
from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.environments import ray_cluster
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.ray_workers import RayWorkers
from trpo.environments.worker_vector import RESTARTED, WorkerVectorEnv
from trpo.training.trainer import Trainer


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield
    # Not before: Ray asks how to authenticate itself as it is imported.
    import ray

    ray.shutdown()
    ray_cluster.stop()


def vector(kind="", phase="", **limits):
    makers = workers._makers(kind, phase)
    return WorkerVectorEnv(makers, RayWorkers(makers), **limits)


def pids_of(env):
    """Of the actors' processes."""
    import ray

    return [ray.get(a.__ray_call__.remote(_pid)) for a in env._workers._actors]


def _pid(_):
    return os.getpid()


def gone(pids):
    return until(lambda: not workers.alive(pids))


def test_a_run_is_that_of_environments_in_this_process_and_resumes_as_it():
    def config(vectorization):
        return preset_config(
            "Pendulum-v1", backend="torch", num_envs=2, rollout_steps=48, seed=3,
            policy_layer_sizes=(4,), critic_layer_sizes=(4,), value_epochs=1,
            vectorization=vectorization,
        )  # fmt: skip

    plain, spread = Trainer(config("sync")), Trainer(config("ray"))
    holder = ray_cluster.start()[1]
    assert holder.poll() is None
    try:
        for _ in range(5):  # Past the end of an episode, of 200 steps.
            plain.train_once()
            spread.train_once()
        states = plain.get_state(), spread.get_state()
    finally:
        spread.close()
    assert set(states[0]) == set(states[1])
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)
    resumed = Trainer(config("ray"))
    try:
        assert resumed.set_state(states[1]) == ()
        resumed.train_once()
        plain.train_once()
        left, right = plain.get_state(), resumed.get_state()
    finally:
        resumed.close()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("killed", "its actor was lost"),
        ("hanging", "no answer within 10 s"),
        ("raise", "RuntimeError: planted in the environment"),
    ],
)
def test_a_failure_is_named_and_leaves_no_actor(kind, reason):
    env = vector(kind, "step", timeout=PATIENCE)
    pids = pids_of(env)
    if kind == "hanging":
        env._timeout = 10.0  # Starting actors is not answering.
    with pytest.raises(EnvironmentWorkerError, match=reason) as caught:
        workers._play(env, 5)
    assert (caught.value.index, caught.value.phase) == (workers.BAD, "step")
    assert ("Traceback" in caught.value.original) == (kind == "raise")
    env.close()
    assert gone(pids)


def test_an_actor_that_was_lost_is_replaced():
    env = vector("killed", "step", max_restarts=1)
    try:
        env.reset()
        steps = [env.step(workers.ACTIONS) for _ in range(4)]
    finally:
        env.close()
    where = [RESTARTED in step[4] for step in steps]
    assert where == [False, False, True, False]
    assert steps[2][4][RESTARTED].tolist() == [False, True, False]
    assert steps[2][3].tolist() == [False, True, False]


def test_a_constructor_that_fails_is_named():
    with pytest.raises(EnvironmentWorkerError, match="planted") as caught:
        vector("raise", "constructor")
    assert (caught.value.index, caught.value.phase) == (workers.BAD, "constructor")


def test_without_ray_the_package_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command = ["train", "Pendulum-v1", "--vectorization", "ray"]
    assert main([*command, "--run-dir", str(tmp_path / "run")]) == 2
    assert 'pip install "trpo[ray]"' in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
