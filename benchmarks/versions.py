"""Every version that is claimed, run: an environment for each, made and thrown away.

Run by `make versions`, with the interpreters that are found; `--python NAME=PATH` adds
one, and `--cells` takes some. A cell that is there already is not run again. `--quick`
is CI's part: this interpreter and its torch, with the oldest and the newest of all
other packages, in folders put before its own.

Imports the standard library alone, since the interpreters that it runs under have
nothing else.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "benchmarks" / "results" / "versions"
LOWEST, PINNED, NEWEST = "lowest", "pinned", "newest"
CONSTRAINTS = {LOWEST: "constraints-lowest.txt", PINNED: "constraints.txt"}
PACKAGES = ("torch", "jax", "flax", "optax", "gymnasium", "numpy")
# What the checks need besides; versions as these constraints or the newest.
SUITE = ("pytest", "hypothesis", "beartype", "mpmath")
# Of --quick: all that `trpo` needs but torch, which is too large to install twice.
WITHOUT_TORCH = (
    *("numpy", "gymnasium", "jaxtyping", "safetensors", "tyro", "rich"),
    *("matplotlib", "tensorboard", "jax", "flax", "optax"),
)
# Packages of other years warn of each other; ours must not warn with pinned ones.
PYTEST = (*("-m", "pytest", "-q", "-x"), "-W", "ignore::DeprecationWarning")
TESTS = (
    *("tests/agent/test_agent_interface.py", "tests/agent/test_agent_state.py"),
    *(
        "tests/runs/test_checkpoint.py",
        "tests/environments/test_spaces.py",
        "tests/training/test_training.py",
    ),
)
UPDATE = """
import sys
import numpy as np
import trpo

random = np.random.default_rng(0)
obs = random.standard_normal((64, 3)).astype(np.float32)
for name in sys.argv[1:]:
    agent = __import__(name).TRPOAgent(3, 1, -2.0, 2.0, "cpu", (16,), (16,))
    action, log_prob, value = agent.act(obs)
    report = agent.update(dict(obs=obs, actions=action, log_probs=log_prob,
                               returns=value + 1,
                               advantages=random.standard_normal(64)))
    assert report["policy/line_search_accepted"] == 1.0, report
    assert 0 < report["policy/kl"] <= 0.01, report
"""
TRAIN = """
import importlib.util, pathlib, sys, tempfile
from trpo.cli.main import main

backend, absent = sys.argv[1:]
assert not absent or importlib.util.find_spec(absent) is None, absent
run = pathlib.Path(tempfile.mkdtemp()) / "run"
assert main(["train", "Pendulum-v1", "--backend", backend, "--run-dir", str(run),
             "--total-steps", "4096", "--eval-episodes", "2"]) == 0
assert main(["evaluate", str(run), "--episodes", "2"]) == 0
"""

# Bounds of pyproject.toml that were raised: package, from, to, what failed before.
RAISED = (
    ("tyro", "0.9", "0.9.1", "from 0.9.0, whose wheel holds no module: "
     "ModuleNotFoundError: No module named 'tyro'"),
)  # fmt: skip


class Check(NamedTuple):
    """One thing that must work.

    Attributes:
        name: column of the table.
        arguments: of the interpreter, in the root of the repository.
        float64: whether JAX's 64-bit mode is on.
        seconds: after which it counts as hung.
    """

    name: str
    arguments: tuple[str, ...]
    float64: bool = False
    seconds: float = 1200.0


IMPORTS = Check("imports, one update", ("-c", UPDATE, "trpo_torch", "trpo_jax"))
RECORDED = Check(
    "ten recorded cases", (*PYTEST, "parity_tests/tests/test_golden.py"), True
)
WHOLE = (
    IMPORTS,
    RECORDED,
    Check("quick tests", (*PYTEST, *TESTS)),
    Check("train, PyTorch", ("-c", TRAIN, "torch", "")),
    Check("train, JAX", ("-c", TRAIN, "jax", "")),
    Check("trpo parity", ("-m", "parity_tests", "--quick", "--out", "{scratch}"), True),
)


class Cell(NamedTuple):
    """One environment.

    Attributes:
        python: such as "3.11".
        versions: LOWEST, PINNED or NEWEST.
        extras: of `trpo`, installed with it.
        checks: run in it.
    """

    python: str
    versions: str
    extras: str = "torch,jax"
    checks: tuple[Check, ...] = WHOLE

    @property
    def name(self) -> str:
        """As it is called on the command line and in the table."""
        alone = "" if "," in self.extras else f"-{self.extras}-alone"
        return f"{self.python}-{self.versions}{alone}"


def _alone(extra: str, module: str, absent: str) -> Cell:
    """A base installation of one backend, in which the other can't be imported."""
    update = Check("imports, one update", ("-c", UPDATE, module))
    train = Check(f"train, {extra}", ("-c", TRAIN, extra, absent))
    return Cell("3.11", PINNED, extra, (update, train))


CELLS = (
    Cell("3.11", LOWEST),
    Cell("3.11", PINNED),
    *(Cell(python, NEWEST) for python in ("3.11", "3.12", "3.13", "3.14")),
    _alone("torch", "trpo_torch", "jax"),
    _alone("jax", "trpo_jax", "torch"),
)


def run_cell(cell: Cell, python: str, index: str | None) -> dict[str, Any]:
    """Make the environment, run the checks in it, remove it.

    Args:
        cell: Which.
        python: Its interpreter.
        index: Of torch's CPU builds, if it is one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        folder = Path(scratch)
        _call([python, "-m", "venv", str(folder / "venv")])
        inside = str(folder / "venv" / "bin" / "python")
        install = [inside, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        if cell.versions in CONSTRAINTS:
            install += ["--constraint", str(ROOT / CONSTRAINTS[cell.versions])]
        if index is not None:
            install += ["--extra-index-url", index]
        wanted = [f"{ROOT}[{cell.extras}]", *(SUITE if cell.checks is WHOLE else ())]
        if message := _call([*install, *wanted]):
            return {"not run": f"could not be installed: {message}"}
        return _checked(cell.checks, inside, {}, folder)


def run_quick(versions: str) -> dict[str, Any]:
    """`--quick`: the packages in a folder before those of this interpreter."""
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        folder = Path(scratch) / "packages"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
        wanted = [*WITHOUT_TORCH]
        if versions == LOWEST:
            pins = dict(
                line.split("==")
                for line in (ROOT / CONSTRAINTS[LOWEST]).read_text().split()
                if "==" in line
            )
            wanted = [f"{name}=={pins[name]}" for name in ("jaxlib", *WITHOUT_TORCH)]
        if message := _call([*install, str(folder), *wanted]):
            raise SystemExit(f"{versions}: could not be installed: {message}")
        before = {"PYTHONPATH": str(folder)}
        return _checked((IMPORTS, RECORDED), sys.executable, before, Path(scratch))


def _checked(
    checks: Sequence[Check], python: str, more: Mapping[str, str], scratch: Path
) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    environment.pop("JAX_ENABLE_X64", None)
    # Compiled quickly, to slower programs, by options that each XLA has its own of.
    flags = "import parity_tests.common.process_setup as e; print(e.QUICK_FLAGS)"
    environment["XLA_FLAGS"] = subprocess.check_output(
        [python, "-c", flags], env=environment, cwd=ROOT, text=True
    ).strip()
    results = {}
    for check in checks:
        start = time.perf_counter()
        arguments = [a.format(scratch=scratch) if "{s" in a else a
                     for a in check.arguments]  # fmt: skip
        bits = {"JAX_ENABLE_X64": "1"} if check.float64 else {}
        message = _call([python, *arguments], {**environment, **bits}, check.seconds)
        results[check.name] = {
            "passed": not message,
            "seconds": round(time.perf_counter() - start, 1),
            "message": message,
        }
    commit = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return {
        "commit": subprocess.check_output(commit, cwd=ROOT, text=True).strip(),
        "packages": _packages(python, environment),
        "checks": results,
    }


def _call(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 3600.0,
) -> str:
    """Run a command in the root of the repository; its last lines if it failed."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            timeout=seconds,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {seconds:.0f} s"
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line]
    return "" if done.returncode == 0 else "\n".join(lines[-12:]) or "failed"


def _packages(python: str, environment: Mapping[str, str]) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "versions = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: versions[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: versions[name] = '-'\n"
        "print(json.dumps(versions))"
    )
    command = [python, "-c", code, *PACKAGES]
    return json.loads(subprocess.check_output(command, env=environment))


def table(results: Mapping[str, Any]) -> str:
    """The results as Markdown, with what failed beneath."""
    names = list(dict.fromkeys(check.name for cell in CELLS for check in cell.checks))
    heads = ["", "commit", "python", *PACKAGES, *names]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    failures = []
    for cell in CELLS:
        result = results.get(cell.name, {"not run": "not asked for"})
        if "not run" in result:
            reason = result["not run"].splitlines()[0]
            blank = " |" * (len(heads) - 2)
            lines.append(f"| {cell.name} | not run: {reason}{blank}")
            failures += (
                [(cell.name, result["not run"])] if "\n" in result["not run"] else []
            )
            continue
        row = [result["packages"][name] for name in ("python", *PACKAGES)]
        for name in names:
            check = result["checks"].get(name)
            passed = {True: "passed", False: "**failed**"}
            row.append("" if check is None else passed[check["passed"]])
            if check is not None and not check["passed"]:
                failures.append((f"{cell.name}, {name}", check["message"]))
        lines.append(f"| {' | '.join([cell.name, result['commit'], *row])} |")
    lines += ["", *(f"{where}:\n\n```\n{what}\n```\n" for where, what in failures)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cells, write versions.json and versions.md; 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions")
    parser.add_argument("--quick", action="store_true", help="CI's part")
    parser.add_argument("--cells", nargs="*", default=[cell.name for cell in CELLS])
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--torch-index", help="index of torch's CPU builds")
    parser.add_argument("--fresh", action="store_true", help="run again what ran")
    parser.add_argument(
        "--publish", action="store_true", help="write committed results"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        return _quick()
    folder = PUBLISHED if options.publish else ROOT / "runs" / "versions"
    folder.mkdir(parents=True, exist_ok=True)
    pythons = dict(pair.split("=", 1) for pair in options.python)
    for cell in CELLS:
        path = folder / "versions.json"
        results = _read(folder)
        ran = "checks" in results.get(cell.name, {})
        if cell.name in options.cells and (options.fresh or not ran):
            python = pythons.get(cell.python) or shutil.which(f"python{cell.python}")
            if python is None:
                results[cell.name] = {"not run": f"no python{cell.python}"}
            else:
                results[cell.name] = run_cell(cell, python, options.torch_index)
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(cell.name, json.dumps(results[cell.name]), flush=True)
        (folder / "versions.md").write_text(page(folder))
    return _status(results)


def _read(folder: Path) -> dict[str, Any]:
    """Cell -> its result, of those that a folder's versions.json has."""
    path = folder / "versions.json"
    return json.loads(path.read_text()) if path.exists() else {}


def page(folder: Path) -> str:
    """The page of a folder's versions.json."""
    return f"""# Versions

Written by `make versions`: each row is a fresh environment. "lowest" has the oldest
versions that `pyproject.toml` claims (`constraints-lowest.txt`), "pinned" those of
`constraints.txt`, "newest" what the package index offered that Python on that day;
where one backend is "alone", the other can't be imported.

{table(_read(folder))}
| bound raised | from | to | because |
|---|---|---|---|
{"".join(f"| {' | '.join(row)} |" + chr(10) for row in RAISED)}"""


def _quick() -> int:
    names: tuple[str, ...] = (LOWEST, NEWEST)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(run_quick, names), strict=True))
    print(json.dumps(found, indent=1))
    return _status(found)


def _status(results: Any) -> int:
    checks = [result.get("checks", {}) for result in results.values()]
    passed = [check["passed"] for found in checks for check in found.values()]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
