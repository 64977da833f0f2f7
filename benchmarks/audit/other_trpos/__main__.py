"""Run one library's update and compare it: a row of the table by one command.

    python -m benchmarks.audit.other_trpos skrl --python ENVIRONMENT/bin/python

`ENVIRONMENT` has the library and PyTorch. Without a library's name, our own backends.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro
from safetensors.numpy import load_file, save_file

from benchmarks.audit.other_trpos import reference
from benchmarks.command import REPOSITORY, Output, run_command


RESULTS = "audit/other_trpos"


@dataclasses.dataclass
class Arguments(Output):
    """Compare one library's update with the paper's, stage by stage."""

    library: Annotated[str, tyro.conf.Positional] = "ours"
    """One of sb3-contrib, tianshou, skrl, omnisafe; by default our own backends."""
    python: str = sys.executable
    """Interpreter of an environment that has it."""


def measured(library: str, python: str, scenario: str) -> dict[str, dict]:
    """Departures of one library in one scenario."""
    problem = reference.problem(scenario)
    settings = reference.LIBRARIES[library]
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder, "given"), Path(folder, "written")
        save_file(reference.given(problem), given)
        subprocess.run(
            [
                python, "-W", "ignore", "-m",
                f"benchmarks.audit.other_trpos.{settings.module}", given, written,
            ],
            cwd=REPOSITORY, check=True, stdout=sys.stderr,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return reference.departures(problem, settings, load_file(written))


def version(python: str, package: str) -> str:
    """The library's version in its environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


def main(arguments: Arguments) -> None:
    """Measure, print, and write NAME.json.

    Raises:
        ValueError: there is no such library.
    """
    library, known = arguments.library, reference.LIBRARIES
    result: dict = {"library": library, "scenarios": {}}
    if library != "ours":
        if library not in known:
            raise ValueError(f"`library`: expected one of {[*known]}, got {library!r}.")
        result["version"] = version(arguments.python, known[library].package)
    for scenario in reference.SCENARIOS:
        result["scenarios"][scenario] = (
            reference.ours(reference.problem(scenario))
            if library == "ours"
            else measured(library, arguments.python, scenario)
        )
    text = json.dumps(result, indent=1)
    print(text)
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{library}.json").write_text(text + "\n")


if __name__ == "__main__":
    run_command(main, Arguments)
