"""A checkpoint of another configuration is refused by name, before anything is made."""

import dataclasses
import json

import numpy as np
import pytest

from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.runs.checkpoint import Checkpoint, CheckpointError
from trpo.runs.checkpoint_fit import LEARNING, OPERATION, _flat, require_fit
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.train import train_run
from trpo.training.python_arguments import PythonArguments


SMALL = {
    "num_envs": 2,
    "rollout_steps": 8,
    "total_steps": 32,
    "policy_layer_sizes": (5, 4),
    "critic_layer_sizes": (6,),
    "value_epochs": 1,
    "eval_episodes": 0,
}
# Each with another value than `SMALL` has. The widest would take gigabytes and hours.
REFUSED = {
    "env_id": "Acrobot-v1",
    "env_kwargs": {"g": 9.81},
    "wrapper_class": "gymnasium.wrappers:FlattenObservation",
    "omit_observations": ("mission",),
    "action_masks": "method",
    "seed": 1,
    "num_envs": 2**20,
    "rollout_steps": 16,
    "normalize_observations": True,
    "observation_clip": 5.0,
    "scale_returns": False,
    "policy_layer_sizes": [40_000, 40_000],
    "critic_layer_sizes": [40_000, 40_000],
    "activation": "relu",
    "layer_norm": True,
    "share_encoder": True,
    "recurrent": "gru",
    "recurrent_size": 16_384,
    "gamma": 0.9,
    "optimizer_type": "sgd",
    "sgd_momentum": 0.5,
    "policy_distribution": "squashed_gaussian",
    "initialization": "torch",
    "initial_log_std": 0.5,
    "cost_limit": 5.0,
    "cost_gamma": 0.9,
    "dtype": "float64",
}
AGENT = {field.name for field in dataclasses.fields(TRPOConfig)}


def config_of(**changes):
    return preset_config("CartPole-v1", backend="torch", **(SMALL | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train_run(config_of(), path)
    return path


def edited(run, **changes):
    """Change fields of the run's config.json; returns its text of before."""
    path = run / "config.json"
    before = path.read_text()
    values = json.loads(before)
    for name, value in changes.items():
        (values["agent"] if name in AGENT else values)[name] = value
    path.write_text(json.dumps(values))
    return before


def nothing_is_made(config):
    raise AssertionError(f"made a trainer of {config}")


def test_no_field_is_forgotten_here():
    names = set(_flat(TrainConfig(env_id="E")))
    assert names == OPERATION | LEARNING | set(REFUSED)
    assert not OPERATION & LEARNING
    assert not (OPERATION | LEARNING) & set(REFUSED)


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_change_is_refused_with_both_values(run, name, backend, capsys):
    before = edited(run, **{name: REFUSED[name]}, backend=backend)
    try:
        config = RunDirectory(run).read_config()
        message = rf"checkpoint-000000000032: does not fit config.json. `{name}`: exp"
        with pytest.raises(CheckpointError, match=message) as error:
            train_run(config, run, resume=True, make_trainer=nothing_is_made)
        saved, now = (_flat(one)[name] for one in (config_of(), config))
        assert f"`{name}`: expected {saved!r}, got {now!r}." in str(error.value)
        with pytest.raises(CheckpointError, match=message):
            load_agent(run)
        for command in (["evaluate", str(run)], ["train", "--resume", str(run)]):
            assert main(command) == 2
            assert "does not fit config.json" in " ".join(
                capsys.readouterr().err.split()
            )
    finally:
        (run / "config.json").write_text(before)


def test_a_compiled_run_too_is_refused_before_it_is_compiled(run, capsys):
    before = edited(run, backend="jax", rollout_steps=16)
    manifest = run / "compiled.json"
    try:
        manifest.write_text('{"num_seeds": 1, "sweep": {}}')
        assert main(["train", "--resume", str(run)]) == 2
        message = " ".join(capsys.readouterr().err.split())
        assert (
            "does not fit config.json. `rollout_steps`: expected 8, got 16" in message
        )
    finally:
        (run / "config.json").write_text(before)
        manifest.unlink()


COMPILED = {
    "no members": ("[]", "expected `num_seeds` and `sweep`"),
    "no seeds": ('{"sweep": {}}', "expected `num_seeds` and `sweep`"),
    "half": ('{"num_se', "not JSON"),
    "too many seeds": ('{"num_seeds": 4611686018427387904, "sweep": {}}', "at most"),
    "half a seed": ('{"num_seeds": 1.5, "sweep": {}}', "`num_seeds`: expected"),
    "no sweep": ('{"num_seeds": 1, "sweep": [1]}', "`sweep`: expected names among"),
    "no such name": ('{"num_seeds": 1, "sweep": {"cg_iters": [1]}}', "`sweep`: expec"),
    "no values": ('{"num_seeds": 1, "sweep": {"gamma": []}}', "`gamma`: expected num"),
    "no number": ('{"num_seeds": 1, "sweep": {"gamma": ["x"]}}', "`gamma`: expected"),
    "a wrong number": ('{"num_seeds": 1, "sweep": {"gamma": [3]}}', "`gamma`: expec"),
}


@pytest.mark.parametrize("kind", COMPILED)
def test_members_of_a_compiled_run_are_checked_by_name(run, kind, capsys):
    content, message = COMPILED[kind]
    manifest = run / "compiled.json"
    manifest.write_text(content)
    try:
        assert main(["train", "--resume", str(run)]) == 2
        printed = " ".join(capsys.readouterr().err.split())
        assert f"{manifest}: " in printed
        assert message in printed
    finally:
        manifest.unlink()


def test_a_resume_may_change_the_numbers_of_its_updates_and_says_so(run, capsys):
    before = edited(run, cg_damping=0.25, total_steps=48, eval_interval=1)
    assert main(["train", "--resume", str(run)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "goes on with cg_damping 0.25, and no more 0.1" in printed
    assert "goes on with total" not in printed
    (run / "config.json").write_text(before)
    # What is there now was saved with the other.
    config = RunDirectory(run).read_config()
    found = require_fit(config, RunDirectory(run).load()[0])
    assert found == {"cg_damping": (0.25, 0.1)}


def checkpoint_of(config, tmp_path, *, step=32, metadata=None, **arrays):
    agent = config.agent
    shapes = {
        f"{network}.layers.{i}.weight": (rows, 3)
        for network, sizes in (
            ("policy", agent.policy_layer_sizes),
            ("value", agent.critic_layer_sizes),
        )
        for i, rows in enumerate((*sizes, 2))
    }
    whole = {name: np.zeros(shape) for name, shape in shapes.items()}
    whole |= {"environment.episode": np.zeros(config.num_envs, np.int64)}
    whole |= {"training.update": np.array(2), **arrays}
    kept = {name: array for name, array in whole.items() if array is not None}
    metadata = {"config": config.to_dict()} if metadata is None else metadata
    return Checkpoint(tmp_path, step, kept, metadata)


FORGED = {
    "policy_layer_sizes": {"policy.layers.1.weight": np.zeros((40, 5))},
    "critic_layer_sizes": {"value.layers.0.weight": None},
    "num_envs": {"environment.episode": np.zeros(3, np.int64)},
    "step": {"training.update": np.array(3)},
}


@pytest.mark.parametrize("name", FORGED)
def test_arrays_that_are_not_what_the_checkpoint_says_are_refused(tmp_path, name):
    config = config_of()
    assert require_fit(config, checkpoint_of(config, tmp_path)) == {}
    with pytest.raises(CheckpointError, match=rf"{tmp_path}: `{name}`: expected .*got"):
        require_fit(config, checkpoint_of(config, tmp_path, **FORGED[name]))


@pytest.mark.parametrize(
    "update", [np.zeros(0), np.zeros(2), np.array(2**63 - 1), np.array(np.nan)]
)
def test_counts_that_are_none_are_refused(tmp_path, update):
    config = config_of()
    forged = checkpoint_of(config, tmp_path, **{"training.update": update})
    with pytest.raises(CheckpointError, match="`step`: expected 32, got"):
        require_fit(config, forged)


def test_a_cell_is_of_the_configured_size(tmp_path):
    config = config_of(recurrent="lstm", recurrent_size=7)
    cells = {f"{n}.cell.hidden.weight": np.zeros((28, 7)) for n in ("policy", "value")}
    require_fit(config, checkpoint_of(config, tmp_path, **cells))
    cells["value.cell.hidden.weight"] = np.zeros((21, 7))
    with pytest.raises(CheckpointError, match="`recurrent_size`: expected 7, got"):
        require_fit(config, checkpoint_of(config, tmp_path, **cells))


def test_networks_of_the_user_s_own_are_not_looked_into(tmp_path):
    config = config_of()
    own = checkpoint_of(config, tmp_path, **{"policy.layers.0.weight": None})
    assert require_fit(config, own, PythonArguments(policy_network=object())) == {}
    with pytest.raises(CheckpointError, match="policy_layer_sizes"):
        require_fit(config, own)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"config": None}, {"config": {}}, {"config": {"env_id": "E", "x": 1}}],
)
def test_a_checkpoint_says_what_it_is_of(tmp_path, metadata):
    config = config_of()
    forged = checkpoint_of(config, tmp_path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"manifest.json: `config`: "):
        require_fit(config, forged)
