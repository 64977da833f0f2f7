"""A benchmark changes nothing that is committed, unless `--publish` is given."""

import ast
import dataclasses
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command import COMMITTED, MORE_OPTIONS, OWN, REPOSITORY, Output


COMMANDS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "benchmarks").rglob("*.py")
    if "run_command(main, Arguments)" in path.read_text()
)
# Those of a bare Python, without `benchmarks.command`'s packages; and what the commands
# run in processes of their own.
BARE = {"gpu", "gpu_report", "versions"}
NO_COMMANDS = {
    "learning.peers.run", "scale.trace", "scale.worker", "speed.measures.against",
    "speed.measures.preset",
    "speed.worker", "audit.other_trpos.sb3_contrib", "audit.other_trpos.tianshou",
    "audit.other_trpos.skrl", "audit.other_trpos.omnisafe",
    # Minimal scripts, which print.
    "audit.other_trpos.findings", "audit.defects.attention_in_float32",
    "audit.defects.rprop_one_step_late",
}  # fmt: skip


def test_every_command_is_one_of_these():
    started = {
        ".".join(path.relative_to(REPOSITORY / "benchmarks").with_suffix("").parts)
        for path in (REPOSITORY / "benchmarks").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    found = {name.removeprefix("benchmarks.") for name in COMMANDS}
    # Rows of `faults` have processes of their own.
    rows = {name for name in started if name.startswith("faults.")} - found
    assert started - NO_COMMANDS - BARE - rows == found
    assert len(found) >= 17


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_under_runs_by_default(name, monkeypatch):
    # Two commands set the number of threads before a framework is imported.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    arguments = importlib.import_module(name).Arguments
    for field in dataclasses.fields(arguments):
        if isinstance(field.default, Path):
            assert field.default.parts[0] == "runs", field.name
    if not issubclass(arguments, Output):
        return
    given = {
        field.name: field.type in ("str", str) and "x"
        for field in dataclasses.fields(arguments)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    found = arguments(**given)
    assert found.folder("x") == OWN / "x"
    assert dataclasses.replace(found, out=Path("y")).folder("x") == Path("y")
    assert dataclasses.replace(found, publish=True).folder("x") == COMMITTED / "x"
    with pytest.raises(ValueError, match="--out and --publish"):
        dataclasses.replace(found, publish=True, out=Path("y")).folder("x")


@pytest.mark.parametrize("name", ["gpu", "versions"])
def test_commands_of_a_bare_python_ask_for_publish_too(name):
    text = (REPOSITORY / "benchmarks" / f"{name}.py").read_text()
    assert '"--publish", action="store_true"' in " ".join(text.split())


def test_the_committed_results_are_named_in_one_place():
    for path in (REPOSITORY / "benchmarks").rglob("*.py"):
        if path.stem in {"command", *BARE}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                right = node.right
                named = isinstance(right, ast.Constant) and right.value == "results"
                assert not named, f"{path.name}:{node.lineno}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The tracked files as they are now, as a repository of their own."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout")
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file() and not name.endswith((".png", ".npz")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    identity = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
    )
    commands = (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all"))
    for command in commands:
        subprocess.run([git, *identity, *command], cwd=folder, check=True)
    return folder


def run(clone, command, options):
    """What a command says, and what it leaves of the clone."""
    settings = {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1", MORE_OPTIONS: options}
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], cwd=clone,
        env={**os.environ, **settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    left = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=clone,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done, left.stdout


TINY = "--rounds 1 --seconds 0.01 --threads 1 --backend torch --samples 8192"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "options", "written"),
    [
        ("python -m benchmarks.speed.batch_scaling", TINY,
         "throughput/scaling-cpu.json"),
        ("python -m benchmarks.learning.training", "--report-only",
         "training/README.md"),
        ("python -m benchmarks.faults", "--fraction 0.001 --only truncated",
         "reliability/torture.csv"),
        ("python -m benchmarks.pages", "", ""),
    ],
)  # fmt: skip
def test_a_run_leaves_a_clone_as_it_was(clone, command, options, written):
    done, left = run(clone, command, options)
    assert (done.returncode, left) == (0, ""), done.stdout + done.stderr
    assert (clone / OWN / written).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        # Those of the repository are of another machine.
        ("speed.update", "--publish --rounds 1 --seconds 0.01 --threads 1 --peers"),
        ("speed.report", "--out nowhere"),
        ("scale", "--only model"),
        ("learning.training", "--report-only --publish --out x"),
    ],
)
def test_what_is_refused_is_said_in_a_line_and_changes_nothing(clone, name, options):
    done, left = run(clone, f"python -m benchmarks.{name}", options)
    assert (done.returncode, left) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
