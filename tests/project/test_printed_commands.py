"""Commands of the README and of `docs/` run as they are printed.

They are not edited: presets of small rollouts, `TrainConfig.num_updates` and the
environments' own limits of steps make them short.
"""

import dataclasses
import re
import shlex
import shutil
import sys
from pathlib import Path

import gymnasium
import pytest

# What is imported while a preset is shortened would keep the short one.
import trpo.runs.compiled
import trpo.sweeps.sweep
import trpo.sweeps.tune
from benchmarks.command import REPOSITORY
from trpo.cli.main import main
from trpo.config import presets
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig


PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PROGRAMS = ("trpo", "make", "pip", "python", "pytest", "torchrun", "mpirun", "srun")
LISTED = Path(__file__).with_name("commands_not_run.txt").read_text().splitlines()
NOT_RUN = dict(line.split(" => ") for line in LISTED if not line.startswith("#"))
MINE = """
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

gymnasium.register("Mine-v0", PendulumEnv, max_episode_steps=20)


class Wrapper(gymnasium.Wrapper):
    pass
"""


def commands(page):
    """What is typed in the page's blocks of no language, continued lines joined."""
    parts = re.split(r"^```(.*)\n", page.read_text(), flags=re.MULTILINE)
    blocks = [parts[i + 1] for i in range(1, len(parts) - 1, 4) if not parts[i]]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [" ".join(re.split(r"\s# ", line)[0].split()) for line in lines]
    # Not the list of folders, in which `trpo/` begins a line.
    return [line for line in typed if line.partition(" ")[0] in PROGRAMS]


ALL = list(dict.fromkeys(line for page in PAGES for line in commands(page)))


def test_each_command_is_run_or_has_a_reason():
    assert set(NOT_RUN) <= set(ALL)
    assert len(ALL) >= 45
    assert all(line.startswith("trpo ") for line in set(ALL) - set(NOT_RUN))


def short_preset(*arguments, **overrides):
    """A preset with small rollouts; what is typed takes their place, as always."""
    config = preset_config(*arguments, **overrides)
    return dataclasses.replace(config, rollout_steps=16, eval_episodes=2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory in which a user would type them, with the runs that they name."""
    for name in ("DIR", "DIR/best", "A", "B"):
        run = tmp_path / "runs" / name
        shutil.copytree(REPOSITORY / "tests" / "runs" / "older" / "plain", run)
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    (tmp_path / "envs").mkdir()
    for name in ("mine.py", "envs/mine.py"):
        (tmp_path / name).write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(TrainConfig, "num_updates", 1)
    assert trpo.preset_config is preset_config
    monkeypatch.setattr(presets, "preset_config", short_preset)
    # Commands, and other tests, have modules of these names of other directories.
    for name in ("mine", *(path.stem for path in (tmp_path / "examples").glob("*.py"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    examples = str(REPOSITORY / "examples")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != examples])
    for spec in gymnasium.registry.values():
        if spec.max_episode_steps:
            monkeypatch.setattr(spec, "max_episode_steps", 10)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", [line for line in ALL if line not in NOT_RUN])
def test_a_command_runs_as_it_is_printed(line, place):
    needs = {"video": "moviepy", "wandb": "wandb", "envpool": "envpool"}
    for word, module in needs.items():
        if word in line:
            pytest.importorskip(module)
    try:
        status = main(shlex.split(line)[1:])
    except SystemExit as ended:  # Of a page of help.
        status = ended.code
    assert status == 0
    made = {path.name for path in place.iterdir()}
    known = {"runs", "examples", "envs", "mine.py", "films", "compared"}
    assert made - known <= {"wandb"}  # As `WANDB_DIR` says, by default here.
