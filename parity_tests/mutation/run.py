"""The suite's own test: one-line faults, one at a time, and which ring sees each.

`python -m parity_tests.mutation [--count N --seed TEXT] [--workers W] [--out DIR]
[--missing]` copies the packages into a temporary folder, plants a fault there, and runs
`parity_tests.mutation.check` on it in a process of its own, or test files that are to
see it. Exit status 1 when a fault goes unseen.
"""

import argparse
import concurrent.futures
import functools
import importlib.util
import json
import os
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from parity_tests.common import process_setup
from parity_tests.mutation.loops import TESTS
from parity_tests.mutation.mutant import Mutant
from parity_tests.mutation.mutants import MUTANTS
from trpo.common.machine import processor_name


PACKAGES = ("trpo", "trpo_torch", "trpo_jax", "parity_tests")
RINGS = ("A", "B", "C", "D", "truth", "failures", TESTED := "tests")
TIME_LIMIT = 600
# What a checkout alone has, of faults that test files look for.
CHECKOUT = ("tests", "examples", "benchmarks", "pyproject.toml")


# The first failure is enough.
QUIETLY = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--durations=0")
FAILED = ("FAILED ", "ERROR ")
# The verdicts that are committed with the suite.
RECORDED = pathlib.Path(__file__).parents[1]


class Verdict(NamedTuple):
    """One mutant's outcome.

    Attributes:
        name: the mutant's.
        file: that it was planted in.
        caught: ring -> its first failures; empty if the mutant survived.
        seconds: that the suite took.
        commit: at which it was tried.
        processor: on which it was tried.
    """

    name: str
    file: str
    caught: dict[str, list[str]]
    seconds: float
    commit: str
    processor: str


def copy_packages(target: pathlib.Path) -> None:
    """Copy the installed packages side by side into `target`, and the tests if any."""
    ignored = shutil.ignore_patterns("__pycache__", ".ruff_cache", "results")
    for name in PACKAGES:
        (source,) = importlib.util.find_spec(name).submodule_search_locations
        shutil.copytree(source, target / name, ignore=ignored)
    for path in filter(pathlib.Path.exists, map(RECORDED.parent.joinpath, CHECKOUT)):
        copy = shutil.copyfile
        if path.is_dir():
            copy = functools.partial(shutil.copytree, ignore=ignored)
        copy(path, target / path.name)


def check(
    folder: pathlib.Path, frameworks: tuple[str, ...], group: str
) -> dict[str, list[str]]:
    """Run the suite in the copy and return its failures: ring -> notes."""
    files = TESTS.get(group, ())
    settings = {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "JAX_ENABLE_X64": str(int(not any(file.startswith("tests") for file in files))),
        # What a fault leaves alone is compiled once for all of them.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Compiling takes longer than running here.
        "XLA_FLAGS": process_setup.QUICK_FLAGS,
    }
    command = [sys.executable, "-m", "parity_tests.mutation.check", group, *frameworks]
    if files:
        others = {"torch", "jax"}.difference(frameworks)
        command = [sys.executable, "-m", "pytest", *QUIETLY, *files]
        command += ["-k", " or ".join(f"not {other}" for other in others)]
    try:
        run = subprocess.run(
            command, cwd=folder, env={**os.environ, **settings}, capture_output=True,
            text=True, timeout=TIME_LIMIT, check=False,
        )  # fmt: skip
        if files:
            return _failed_tests(run)
        return json.loads(run.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"A": [f"did not end within {TIME_LIMIT} s"]}
    except (IndexError, json.JSONDecodeError):
        # The mutant does not even import; nothing compared is something seen.
        return {"A": [f"crash: {run.stderr.strip().splitlines()[-1:]}"]}


def _failed_tests(run: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The tests that failed, or that pytest itself did; none if all passed."""
    if run.returncode == 0:
        return {}
    lines = [line for line in run.stdout.splitlines() if line.startswith(FAILED)]
    return {
        TESTED: lines or [f"pytest ended with {run.returncode}: {run.stdout[-200:]}"]
    }


def run(mutants: list[Mutant], workers: int = 1) -> Iterator[Verdict]:
    """Try the unchanged copy, then each mutant; yields verdicts in order of `mutants`.

    Args:
        mutants: The faults to plant, one at a time.
        workers: Number of mutants tried at once, each in a copy of its own.

    Raises:
        RuntimeError: the suite finds a fault where none was planted.
    """
    with tempfile.TemporaryDirectory(prefix="parity-mutation-") as temporary:
        folders: queue.Queue[pathlib.Path] = queue.Queue()
        first = pathlib.Path(temporary) / "0"
        copy_packages(first)
        groups = sorted({mutant.group for mutant in mutants})
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            # In one copy: what one group compiles, another may find.
            clean = pool.map(lambda g: check(first, ("torch", "jax"), g), groups)
            for group, failures in zip(groups, clean, strict=True):
                if failures:
                    raise RuntimeError(
                        f"the suite fails without any fault, on {group!r}: {failures}"
                    )
        folders.put(first)
        for i in range(1, workers):
            # With what the first has compiled.
            folders.put(shutil.copytree(first, pathlib.Path(temporary) / str(i)))

        def attempt(mutant: Mutant) -> Verdict:
            folder = folders.get()
            try:
                return _verdict(folder, mutant)
            finally:
                folders.put(folder)

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            yield from pool.map(attempt, mutants)


def sample_mutants(
    mutants: list[Mutant], count: int, seed: str, most_groups: int = 3
) -> list[Mutant]:
    """Draw `count` mutants by `seed`, or fewer if the groups drawn have no more.

    They are of at most `most_groups` groups, since each group is also tried once
    without a fault.
    """
    drawn = random.Random(seed).sample(mutants, len(mutants))
    groups = list(dict.fromkeys(mutant.group for mutant in drawn))[:most_groups]
    return [mutant for mutant in drawn if mutant.group in groups][:count]


def _verdict(folder: pathlib.Path, mutant: Mutant) -> Verdict:
    start = time.perf_counter()
    path = mutant.file(folder)
    before = path.read_text()
    path.write_text(mutant.planted(before))
    try:
        framework = mutant.name.partition(":")[0]
        frameworks = (framework,)
        if framework == "shared":
            # To tests of the host's loop one backend is as good as both.
            frameworks = ("torch",) if mutant.group in TESTS else ("torch", "jax")
        caught = check(folder, frameworks, mutant.group)
    finally:
        path.write_text(before)
    seconds = time.perf_counter() - start
    return Verdict(
        name=mutant.name,
        file=str(path.relative_to(folder)),
        caught=caught,
        seconds=seconds,
        commit=process_setup.commit(),
        processor=processor_name(),
    )


def only_seen_by(verdicts: list[Verdict]) -> dict[str, list[str]]:
    """Ring -> mutants that no other ring sees, which its removal would let through."""
    alone: dict[str, list[str]] = {ring: [] for ring in RINGS}
    for verdict in verdicts:
        if len(verdict.caught) == 1:
            alone[next(iter(verdict.caught))].append(verdict.name)
    return alone


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as Markdown."""
    caught = sum(bool(verdict.caught) for verdict in verdicts)
    commits, processors = (_distinct(verdicts, n) for n in ("commit", "processor"))
    lines = [
        "# Planted faults",
        "",
        f"{caught} of {len(verdicts)} caught, at commit {commits} "
        f"on {processors}. Written by `python -m "
        "parity_tests.mutation`; what the columns mean is in "
        "`parity_tests/README.md`.",
        "",
        "| fault | " + " | ".join(RINGS) + " | seen first |",
        "|---|" + "---|" * (len(RINGS) + 1),
    ]
    for verdict in verdicts:
        marks = ["x" if ring in verdict.caught else "" for ring in RINGS]
        first = next(iter(verdict.caught.values()), ["**survived**"])[0]
        first = first.replace("|", "/").replace("\n", " ")[:90]
        lines.append(f"| {verdict.name} | " + " | ".join(marks) + f" | {first} |")
    lines += ["", "Seen by one ring alone, so lost if that ring were removed:", ""]
    for ring, names in only_seen_by(verdicts).items():
        lines.append(f"- {ring}: {', '.join(names) if names else 'none'}")
    return "\n".join(lines) + "\n"


def _distinct(verdicts: Iterable[Verdict], field: str) -> str:
    return ", ".join(dict.fromkeys(getattr(verdict, field) for verdict in verdicts))


def recorded() -> dict[str, Any]:
    """The committed verdicts in numbers: planted, caught, commits, processors."""
    verdicts = read(RECORDED).values()
    return {
        "planted": len(verdicts),
        "caught": sum(bool(verdict.caught) for verdict in verdicts),
        "commits": _distinct(verdicts, "commit").split(", "),
        "processors": _distinct(verdicts, "processor").split(", "),
    }


def page(folder: pathlib.Path) -> str:
    """The table of a folder's verdicts."""
    return table(list(read(folder).values()))


def write(verdicts: list[Verdict], folder: pathlib.Path) -> None:
    """Write the verdicts as `mutation.md` and `mutation.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutation.md").write_text(table(verdicts))
    rows = [verdict._asdict() for verdict in verdicts]
    (folder / "mutation.json").write_text(json.dumps(rows, indent=1) + "\n")


def read(folder: pathlib.Path) -> dict[str, Verdict]:
    """The verdicts that `write` wrote, by name; none if there is no such file."""
    path = folder / "mutation.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    return {row["name"]: Verdict(**row) for row in rows}


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 1 when a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=len(MUTANTS))
    parser.add_argument("--seed", default="0", help="which ones, if not all: any text")
    parser.add_argument("--workers", type=int, default=1, help="tried side by side")
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the table")
    parser.add_argument(
        "--missing", action="store_true", help="those that --out has no verdict on"
    )
    options = parser.parse_args(arguments)
    known = read(options.out) if options.out and options.missing else {}
    chosen = [
        mutant
        for mutant in MUTANTS
        if options.only in mutant.name and mutant.name not in known
    ]
    if options.count < len(chosen):
        chosen = sample_mutants(chosen, options.count, options.seed)
    verdicts = []
    for verdict in run(chosen, options.workers):
        verdicts.append(verdict)
        seen = ", ".join(verdict.caught) or "SURVIVED"
        print(f"{verdict.name:45} {seen:30} {verdict.seconds:5.1f} s", flush=True)
        if options.out:
            known[verdict.name] = verdict
            write([known[m.name] for m in MUTANTS if m.name in known], options.out)
    survivors = [verdict.name for verdict in verdicts if not verdict.caught]
    print(f"{len(verdicts) - len(survivors)} of {len(verdicts)} caught")
    return bool(survivors)
