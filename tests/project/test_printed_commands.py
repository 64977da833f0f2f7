"""Commands of the README and of the other pages run as they are printed.

They are not edited. `tests.support.short_runs` makes those of `trpo` short; benchmarks
read more options from an environment variable.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

# What is imported while a preset is shortened would keep the short one.
import trpo.runs.compiled
import trpo.sweeps.sweep
import trpo.sweeps.tune
from benchmarks.command import MORE_OPTIONS, REPOSITORY
from tests.support.short_runs import SHORTENED, run_benchmark, shorten
from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.runs.checkpoint import save_checkpoint
from trpo.runs.directory import RunDirectory


FOLDERS = ("docs", "examples", "benchmarks", "parity_tests", "parity_kit", "tests")
# All of them; results name what they were written by, in sentences.
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *(path for name in FOLDERS for path in sorted((REPOSITORY / name).rglob("*.md"))
      if "results" not in path.parts),
    *sorted((REPOSITORY / "examples").rglob("*.py")),
]  # fmt: skip
PROGRAMS = ("trpo", "make", "pip", "python", "pytest", "torchrun", "mpirun", "srun")
LISTED = Path(__file__).with_name("commands_not_run.txt").read_text().splitlines()
NOT_HERE = dict(line.split(" => ") for line in LISTED if not line.startswith("#"))
MINE = """
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

gymnasium.register("Mine-v0", PendulumEnv, max_episode_steps=20)


class Wrapper(gymnasium.Wrapper):
    pass
"""
PAIR = """
import jax.numpy as jnp
import numpy as np
import torch
from parity_kit import Pair


def torch_side(x):
    return torch.tanh(x)


def jax_side(x):
    return jnp.tanh(x)


def inputs(seed):
    return (np.random.default_rng(seed).standard_normal((4, 3)),)


pair = Pair(torch_side, jax_side, inputs)
"""
# Several processes: the command is typed into a shell.
STARTS_OTHERS = ("torchrun ", "mpirun ", "trpo sweep ", "trpo tune ")
MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}  # fmt: skip


def commands(page):
    """What is typed in the page's blocks of no language, continued lines joined.

    Of a program, in what it says of itself.
    """
    text = page.read_text()
    if page.suffix == ".py":
        text = f"```\n{ast.get_docstring(ast.parse(text))}\n```\n"
    parts = re.split(r"^```(.*)\n", text, flags=re.MULTILINE)
    blocks = [parts[i + 1] for i in range(1, len(parts) - 1, 4) if not parts[i]]
    # Those without fences stand four columns in, below an empty line.
    blocks += re.findall(r"(?<=\n\n)(?:    .*\n)+", "".join(parts[::4]))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [" ".join(re.split(r"\s# ", line)[0].split()) for line in lines]
    # Not the list of folders, in which `trpo/` begins a line.
    return [line for line in typed if line.partition(" ")[0] in PROGRAMS]


ALL = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
HERE = [line for line in ALL if line not in NOT_HERE]


def beginning(*words):
    return [line for line in HERE if line.startswith(words)]


PIP = beginning("pip install ")
PROCESSES = beginning(*STARTS_OTHERS)
# Others need options, by the tests that `commands_not_run.txt` names.
BENCHMARKS = [
    "python -m benchmarks.speed.prediction",
    "python -m benchmarks.learning.compiled.prediction",
]
TRPO = [line for line in beginning("trpo ") if line not in PROCESSES]
OTHERS = ["python -m parity_kit my_module:pair --out parity", "make demo"]


def test_nine_in_ten_of_those_that_can_run_do():
    assert set(NOT_HERE) <= set(ALL)
    assert sorted(HERE) == sorted([*PIP, *PROCESSES, *BENCHMARKS, *TRPO, *OTHERS])
    kinds = [reason.split(" ")[0].rstrip(":") for reason in NOT_HERE.values()]
    assert set(kinds) <= {"by", "lacks", "left"}
    possible = len(ALL) - kinds.count("lacks")
    assert possible >= 60
    assert kinds.count("left") <= 0.1 * possible


def rules_of_make():
    """Each target of the Makefile: what it needs, and its lines."""
    text = (REPOSITORY / "Makefile").read_text().replace("\\\n", "")
    text = text.replace("$(BIN)/", "")
    rule = re.compile(r"^([\w-]+):(?!.*=)(.*)\n((?:\t.*\n)*)", re.MULTILINE)
    return {name: (needs.split(), lines) for name, needs, lines in rule.findall(text)}


def targets_of_ci():
    """The targets of make that `.ci/run` makes, those that they need and their lines.

    Those without lines of their own, such as `check`, if all that they need is made.
    """
    rules = rules_of_make()
    script = (REPOSITORY / ".ci" / "run").read_text()
    waiting = re.search(r"for parts in (.*); do", script)[1].split()
    # What is typed here is made too.
    made, waiting = set(), [*waiting, *(line.split()[1] for line in beginning("make"))]
    while waiting:
        name = waiting.pop().strip('"')
        if name in rules and name not in made:
            made.add(name)
            called = re.findall(r"\$\(MAKE\).*? ([\w-]+)(?: >|$)", rules[name][1], re.M)
            waiting += rules[name][0] + called
    made |= {n for n, (needs, own) in rules.items() if not own and made >= set(needs)}
    return {name: rules[name][1] for name in made}


@pytest.mark.parametrize("line", [n for n, x in NOT_HERE.items() if x[:3] == "by "])
def test_what_is_run_elsewhere_stands_there(line):
    """A line of CI may have more options than the printed one: those are its size."""
    made, place = targets_of_ci(), NOT_HERE[line].split(" ")[1].rstrip(":")
    if place == ".ci/run":
        assert line.split()[1] in made
    elif place == "Makefile":
        if line.startswith("make "):  # What it calls, up to options that are optional.
            line = rules_of_make()[line.split()[1]][1].partition(" $(if ")[0].strip()
        assert any(line in lines for lines in made.values())
    elif example := re.search(r"examples[./]([a-z_]*?)(_torch|_jax)?\b", line):
        assert example[1] in (REPOSITORY / place).read_text()
    else:
        # Whole, or as arguments of a list.
        text, module = (REPOSITORY / place).read_text(), line.split(" ")[2]
        assert f'"{line}"' in text or f'"-m", "{module}"' in text


@pytest.mark.parametrize("line", PIP)
def test_what_is_installed_is_what_make_installs_and_less(line):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (asked,) = re.findall(r"\.\[(.*)\]", line)
    (whole,) = (part for part in extras["dev"] if part.startswith("trpo["))
    assert set(asked.split(",")) <= set(whole[5:-1].split(","))
    assert (
        '--editable ".[dev]"'
        in targets_of_ci()["install"] + (REPOSITORY / "Makefile").read_text()
    )


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
    (tmp_path / "my_module.py").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    # Commands, and other tests, have modules of these names of other directories.
    for name in ("mine", *(path.stem for path in (tmp_path / "examples").glob("*.py"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    examples = str(REPOSITORY / "examples")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != examples])
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", TRPO)
def test_a_command_runs_as_it_is_printed(line, place, monkeypatch):
    needs = {"video": "moviepy", "wandb": "wandb", "envpool": "envpool"}
    for word, module in needs.items():
        if word in line:
            pytest.importorskip(module)
    if step := re.search(r"--checkpoint (\d+)", line):
        run = RunDirectory(Path("runs/DIR"))
        old, updates = run.load()[0], int(step[1]) // 64
        arrays = {**old.arrays, "training.update": np.array(updates)}
        given = (int(step[1]), arrays, old.metadata, None)
        save_checkpoint(run.path / "checkpoints", *given)
    assert trpo.preset_config is preset_config
    # The run that is resumed has two of its updates.
    shorten(monkeypatch.setattr, updates=3 if "--resume" in line else 1)
    try:
        status = main(shlex.split(line)[1:])
    except SystemExit as ended:  # Of a page of help.
        status = ended.code
    assert status == 0
    made = {path.name for path in place.iterdir()}
    known = {"runs", "examples", "envs", "mine.py", "my_module.py", "films", "compared"}
    assert made - known <= {"wandb"}  # As `WANDB_DIR` says, by default here.


def shell(line, place, **variables):
    """Run a line as typed, with this interpreter's programs first; what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("line", [*PROCESSES, OTHERS[0]])
def test_a_command_that_starts_others_runs_as_it_is_printed(line, place):
    printed = shell(line, place, PYTHONPATH=SHORTENED, **MPI)
    assert printed
    if "--distributed" in line:
        (run,) = (place / "runs").glob("HalfCheetah-v5*")
        config = RunDirectory(run).read_config()
        assert RunDirectory(run).load()[0].step == 16 * config.num_envs


@pytest.mark.slow
@pytest.mark.parametrize("line", BENCHMARKS)
def test_a_benchmark_runs_as_it_is_printed(line, place, monkeypatch):
    assert not run_benchmark(line, "", monkeypatch)


@pytest.mark.slow
def test_the_demonstration_runs_as_it_is_printed(place):
    """By the Makefile, of the environment that there is."""
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / ".installed").touch()
    python = place / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (place / name).symlink_to(REPOSITORY / name)
    options = {"VENV": "venv", MORE_OPTIONS: "--total-steps 1600"}
    printed = shell(OTHERS[1], place, PYTHONPATH=SHORTENED, **options)
    assert "finished in" in printed
