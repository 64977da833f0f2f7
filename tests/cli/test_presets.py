"""Presets: every environment of the study has one, and the command line shows it."""

import dataclasses

import pytest

from trpo.cli.main import main
from trpo.config.classic_presets import BY_ENVIRONMENT, DEFAULT, PENDULUM
from trpo.config.mujoco_presets import MUJOCO
from trpo.config.presets import all_presets, find_preset, preset_config, preset_for
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics


FIELDS = {
    field.name
    for kind in (TrainConfig, TRPOConfig)
    for field in dataclasses.fields(kind)
}


@pytest.mark.parametrize("preset", all_presets().values(), ids=lambda p: p.name)
def test_every_value_has_a_reason_and_makes_a_configuration(preset):
    for name, setting in preset.settings.items():
        assert name in FIELDS
        assert len(setting.reason) > 3
    config = preset_config("Pendulum-v1", preset.name)
    assert config.env_id == "Pendulum-v1"
    assert config.num_updates > 1


def test_environments_get_their_own_their_familys_or_the_default():
    assert preset_for("Pendulum-v1") is PENDULUM
    assert preset_for("Hopper-v5").name == "hopper"
    assert preset_for("Pusher-v5") is MUJOCO
    assert preset_for("Unknown-v0") is DEFAULT
    names = [preset.name for preset in BY_ENVIRONMENT.values()]
    # Both of Gymnasium's functional CartPoles share one.
    assert len(set(names)) == len(names) - 1 == 17


def test_overrides_go_to_their_level_and_unknown_ones_are_named():
    config = preset_config("Hopper-v5", seed=3, gamma=0.5)
    assert (config.seed, config.agent.gamma) == (3, 0.5)
    with pytest.raises(ValueError, match="gama"):
        preset_config("Hopper-v5", gama=0.5)
    with pytest.raises(
        ValueError,
        match=r"`preset`: expected an environment's id or .*hopper.*'hop'",
    ):
        find_preset("hop")


def test_command_line_lists_and_shows_presets(capsys):
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    for name in all_presets():
        assert name in listed
    shown = []
    for name in ("pendulum", "Pendulum-v1"):
        assert main(["presets", name]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "0.95" in shown[0]
    assert "trpo train Pendulum-v1" in shown[0]
    assert main(["presets", "nothing"]) == 2
    assert "expected an environment's id or one of" in " ".join(
        capsys.readouterr().err.split()
    )


def test_train_takes_another_preset_and_help_shows_its_values(tmp_path, capsys):
    run = tmp_path / "run"
    options = "--num-envs 2 --rollout-steps 40 --total-steps 80 --eval-episodes 0"
    arguments = ["train", "Pendulum-v1", "--preset", "mujoco", "--backend", "torch"]
    assert main([*arguments, *options.split(), "--run-dir", str(run)]) == 0
    config = RunDirectory(run).read_config()
    assert config.agent.cg_iters == MUJOCO.settings["cg_iters"].value
    assert config.agent.gamma == 0.99
    assert len(read_metrics(run / "metrics.csv")) == 1
    with pytest.raises(SystemExit):
        main(["train", "Pendulum-v1", "--help-all"])
    assert "0.95" in capsys.readouterr().out
    assert main(["train", "Pendulum-v1", "--preset", "nothing"]) == 2
