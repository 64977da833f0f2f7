"""Run one library's update and compare it: a row of the table by one command.

    python -m benchmarks.audit.other_trpos skrl --python ENVIRONMENT/bin/python

`ENVIRONMENT` has the library and PyTorch. Without a library's name, our own backends.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file, save_file

from benchmarks.audit.other_trpos import reference
from benchmarks.command import REPOSITORY


RESULTS = REPOSITORY / "benchmarks" / "results" / "audit" / "other_trpos"


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


def main() -> None:
    """Measure, print, and write `results/audit/other_trpos/NAME.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("library", nargs="?", choices=reference.LIBRARIES)
    parser.add_argument("--python", default=sys.executable)
    arguments = parser.parse_args()
    library = arguments.library or "ours"
    result: dict = {"library": library, "scenarios": {}}
    if arguments.library:
        package = reference.LIBRARIES[library].package
        result["version"] = version(arguments.python, package)
    for scenario in reference.SCENARIOS:
        result["scenarios"][scenario] = (
            measured(library, arguments.python, scenario)
            if arguments.library
            else reference.ours(reference.problem(scenario))
        )
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{library}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
