"""Processes of environments end with the one that trains, however it ends."""

import functools
import gc
import os
import signal
import subprocess
import sys

import pytest

from benchmarks.faults import orphans
from benchmarks.faults.workers import alive
from tests.support.waiting import PATIENCE, until
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.process_workers import ProcessWorkers
from trpo.environments.worker_vector import WorkerVectorEnv
from trpo.runs.checkpoint import newest_checkpoint
from trpo.runs.metrics import read_metrics


@pytest.mark.parametrize("scenario", orphans.SCENARIOS, ids=lambda s: s.fault)
def test_a_program_that_never_closes_them_leaves_none(scenario):
    row = scenario.at(0.0)
    assert (row.lost, row.survived) == ([], 1)


def test_a_training_script_that_raised_ends_with_its_environments():
    script = """
from trpo.config.presets import preset_config
from trpo.training.trainer import Trainer
if __name__ == "__main__":
    trainer = Trainer(preset_config(
        "Pendulum-v1", backend="torch", num_envs=2, rollout_steps=8,
        vectorization="async", policy_layer_sizes=(4,), critic_layer_sizes=(4,),
    ))
    trainer.train_once()
    print("started", flush=True)
    raise RuntimeError
"""
    assert orphans.run(script, 0) == (1, [])


def stuck(kind):
    """Two environments, the second of which is in a step for good; their processes."""
    makers = [
        functools.partial(orphans.make, *case) for case in [("", ""), (kind, "step")]
    ]
    env = WorkerVectorEnv(makers)
    env.reset()
    workers = env._workers
    assert isinstance(workers, ProcessWorkers)
    workers.send(1, 10, "step", orphans.ACTIONS[1])
    return env, [workers.pid(index) for index in range(2)]


def test_environments_that_are_forgotten_end():
    env, pids = stuck("spins")
    del env
    gc.collect()
    assert not alive(pids)


# JAX, where another test has imported it, warns of any fork.
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_fork_can_neither_use_nor_end_them():
    env, pids = stuck("sleeps")
    if (child := os.fork()) == 0:
        try:
            env.step(orphans.ACTIONS)
        except BaseException as error:
            named = "belongs to the process that this one was forked from" in str(error)
            os._exit(0 if named else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alive(pids) == pids
    with pytest.raises(EnvironmentWorkerError, match="no answer"):
        env.close()
    assert not alive(pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_lets_the_update_end(tmp_path, number):
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "trpo", "train", "Pendulum-v1", "--backend", "torch"),
        *("--num-envs", "2", "--rollout-steps", "64", "--total-steps", "100000000"),
        *("--vectorization", "async", "--run-dir", str(run)),
    ]
    mark = str(run)
    process = subprocess.Popen(
        command,
        env={**os.environ, orphans.MARK: mark},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: read_metrics(run / "metrics.csv"), process)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, said
    assert newest_checkpoint(run / "checkpoints")[0].step % 128 == 0
    assert orphans.waited(lambda: orphans.of_program(mark)) == []
