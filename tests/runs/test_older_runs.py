"""Runs of before settings were taken out: they act, and resume if they used none.

`older/` holds directories that format 1 wrote: one with the defaults, others with
settings that are gone.
"""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from trpo.cli.main import main
from trpo.common.formats import REMOVED, REMOVED_DETAILS, TRIED
from trpo.config.run import TrainConfig
from trpo.runs.directory import RunDirectory, RunDirectoryError, load_agent
from trpo.runs.metrics import read_metrics


OLDER = Path(__file__).parent / "older"
# Run -> settings that it used and that are gone.
USED = {
    "step_options": {"adaptive_damping", "cg_warm_start", "preconditioner"},
    "gauss_newton": {"value_fit", "value_clip"},
    "lbfgs": {"value_fit", "value_loss"},
}
OBS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def copied(name, tmp_path):
    """A copy of one of the runs, to write to."""
    return Path(shutil.copytree(OLDER / name, tmp_path / name))


def agent_values(path):
    return json.loads((path / "config.json").read_text())["agent"]


def test_the_runs_are_of_the_format_before():
    for path in OLDER.iterdir():
        assert json.loads((path / "config.json").read_text())["format_version"] == 1
        assert set(agent_values(path)) >= {*REMOVED, *REMOVED_DETAILS}
    assert {path.name for path in OLDER.iterdir()} == {"plain", *USED}


def test_settings_at_their_default_are_dropped_without_a_word_and_the_run_resumes(
    tmp_path, capsys
):
    run = copied("plain", tmp_path)
    with warnings.catch_warnings(action="error"):
        config = RunDirectory(run).read_config()
        load_agent(run)
    assert config == TrainConfig.from_dict(config.to_dict())
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 0
    assert len(read_metrics(run / "metrics.csv")) == 3
    assert not set(agent_values(run)) & set(REMOVED)
    assert "taken out" not in capsys.readouterr().err


@pytest.mark.parametrize("name", REMOVED_DETAILS)
def test_a_detail_of_a_setting_that_was_off_is_dropped_too(name):
    values = json.loads((OLDER / "plain" / "config.json").read_text())
    expected = TrainConfig.from_dict(values)
    values["agent"][name] = 0.5
    assert TrainConfig.from_dict(values) == expected


@pytest.mark.parametrize("name", USED)
def test_a_run_that_used_one_is_not_resumed_and_stays_as_it_is(name, tmp_path, capsys):
    run = copied(name, tmp_path)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for setting in USED[name]:
        assert f"`{setting}`: expected {REMOVED[setting].default!r}" in said
    assert TRIED in said
    assert "trpo evaluate" in said
    after = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert {
        p for p in after if p.name != ".lock" and after[p] != before.get(p)
    } == set()
    with pytest.raises(RunDirectoryError, match="Training can't go on"):
        RunDirectory(run).read_config()


@pytest.mark.parametrize("name", USED)
def test_it_evaluates_with_one_note(name, tmp_path, capsys):
    run = copied(name, tmp_path)
    with pytest.warns(UserWarning, match=TRIED) as noted:
        assert main(["evaluate", str(run), "--episodes", "1"]) == 0
    assert "over 1 episode" in capsys.readouterr().out
    (note,) = (str(each.message) for each in noted)
    for setting in USED[name]:
        assert note.count(f"`{setting}`: expected") == 1


@pytest.mark.parametrize("name", USED)
def test_either_backend_acts_as_the_weights_say(name):
    answers = []
    for backend in ("torch", "jax"):
        with pytest.warns(UserWarning, match=TRIED) as noted:
            agent, _ = load_agent(OLDER / name, backend=backend)
        # The first import of a backend may warn of something else.
        assert sum(TRIED in str(each.message) for each in noted) == 1
        answers.append(agent.act(OBS, deterministic=True))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    fresh = RunDirectory(OLDER / name).load()[0].arrays["policy.log_std"]
    assert fresh == agent.get_state()["policy.log_std"]


def test_a_setting_of_the_present_format_that_is_gone_is_unknown(tmp_path):
    run = copied("plain", tmp_path)
    values = json.loads((run / "config.json").read_text()) | {"format_version": 2}
    (run / "config.json").write_text(json.dumps(values))
    with pytest.raises(RunDirectoryError, match="unknown field"):
        RunDirectory(run).read_config()
