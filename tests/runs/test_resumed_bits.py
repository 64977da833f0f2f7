"""A resumed run is exact with as many threads, and says so where there are others."""

import os

import pytest

from trpo.agent.make import load_backend
from trpo.common.machine import available_cores, processor_name
from trpo.config.presets import preset_config
from trpo.runs import directory as run_directory
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory
from trpo.runs.resuming import computed_otherwise
from trpo.runs.train import train_run


SMALL = {
    "num_envs": 2, "rollout_steps": 32, "total_steps": 64, "eval_episodes": 0,
    "policy_layer_sizes": (8,), "critic_layer_sizes": (8,), "value_epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module", params=["torch", "jax", "compiled"])
def run(request, tmp_path_factory):
    """A run's kind, directory and configuration."""
    kind, path = request.param, tmp_path_factory.mktemp("runs") / "run"
    if kind == "compiled":
        config = preset_config("phys2d/Pendulum-v0", **SMALL)
        train_compiled_run(config, path)
    else:
        config = preset_config("Pendulum-v1", backend=kind, **SMALL)
        train_run(config, path)
    return kind, path, config


def test_a_checkpoint_says_what_its_bits_depend_on(run):
    _, path, config = run
    checkpoint, _ = RunDirectory(path).load()
    found = checkpoint.metadata
    assert (
        found["threads"] == load_backend(config.backend).devices.device.threads() >= 1
    )
    assert found["processor"] == processor_name() != ""
    assert found["versions"][config.backend]
    assert computed_otherwise(config, checkpoint) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 96}, ["threads {threads}, and no more 96"]),
        ({"processor": "an \x1b[31mabacus"}, ["processor {processor}, and no more "]),
        ({"versions": {"numpy": "1.0"}}, ["numpy {numpy}, and no more '1.0'"]),
        ({"versions": {"fork": "1"}}, ["fork 'none', and no more '1'"]),
        # Of what this run's backend doesn't use, and of the other one.
        ({"versions": {"python": "2.7", "torch": "0", "jax": "0"}}, ["{other} "]),
        # Older checkpoints, and a stranger's.
        ({"threads": None, "processor": None, "versions": None}, []),
        ({"versions": [1, 2]}, []),
    ],
)
def test_what_differs_is_named(run, change, said):
    _, path, config = run
    checkpoint, _ = RunDirectory(path).load()
    metadata = {
        name: value
        for name, value in (checkpoint.metadata | change).items()
        if value is not None
    }
    found = computed_otherwise(config, checkpoint._replace(metadata=metadata))
    versions = run_directory.installed_versions()
    names = {
        "threads": checkpoint.metadata["threads"],
        "processor": repr(processor_name()),
        "numpy": repr(versions["numpy"]),
        "other": config.backend,
    }
    assert len(found) == len(said)
    for line, expected in zip(found, said, strict=True):
        assert line.startswith(expected.format(**names))
        assert line.isprintable()
    elsewhere = preset_config("Pendulum-v1", backend=config.backend, device="cuda")
    assert computed_otherwise(elsewhere, checkpoint._replace(metadata=metadata)) == []


def test_resuming_with_another_number_of_threads_warns(run, capsys):
    kind, path, config = run
    backend, said = config.backend, "not bit for bit"
    longer = preset_config(
        config.env_id, backend=backend, **SMALL | {"total_steps": 128}
    )
    threads = load_backend(backend).devices.device.threads()
    if kind == "torch":
        import torch

        torch.set_num_threads(threads + 1)
    elif not hasattr(os, "sched_setaffinity") or available_cores() == 1:
        pytest.skip("needs two cores, and a say in which are used")
    else:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
    try:
        train = train_compiled_run if kind == "compiled" else train_run
        train(longer, path, resume=True)
    finally:
        if kind == "torch":
            torch.set_num_threads(threads)
        else:
            os.sched_setaffinity(0, cores)
    assert said in " ".join(capsys.readouterr().out.split())
    now = RunDirectory(path).load()[0].metadata["threads"]
    assert now == (threads + 1 if kind == "torch" else 1)
