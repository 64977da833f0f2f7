"""What is to be known of a GPU, in one command and a few minutes: `make gpu`.

    python -m benchmarks.gpu [--out DIR] [--minutes 8]
    python -m benchmarks.gpu --rehearse [--sizes 1]    # every line, on the CPU

From a checkout, nothing installed but PyTorch and JAX: what else is missing costs its
rows, or is unpacked from wheels that were brought along (`make gpu-wheels`). Each part
is one of the other commands here, in a process with a limit of its own, and writes its
results as it goes. A second call goes on where the first stopped.

Imports the standard library alone: it has to start wherever Python does.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parity_tests.common.process_setup import QUICK_FLAGS


ROOT = Path(__file__).resolve().parents[1]
OWN, COMMITTED = Path("runs/results/gpu"), ROOT / "benchmarks" / "results" / "gpu"
REHEARSAL = "rehearsal on a CPU at small sizes: no measurement"
PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium")
DONE, STOPPED, FAILED, NOT_RUN = "done", "stopped", "failed", "not run"
OF_PART = {
    "parity": {"JAX_ENABLE_X64": "1"},
    # Compiled as ever: its programs run longer than they take to compile.
    "compiled": {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
}
MISSING = re.compile(r"No module named '?([\w.-]+)")
# What a part that was started needs to say anything.
LEAST_SECONDS = 10.0
PROBE = """
import json
found = {}
try:
    import torch
    count = torch.cuda.device_count()
    found["PyTorch"] = [torch.cuda.get_device_name(i) for i in range(count)]
except Exception as error:
    found["PyTorch"] = str(error)
try:
    import jax
    found["JAX"] = [device.device_kind for device in jax.devices("gpu")]
except Exception as error:
    found["JAX"] = str(error)
print(json.dumps(found))
"""


class Part(NamedTuple):
    """A command of the run.

    Attributes:
        name: what it is called.
        what: what it finds out.
        seconds: most that it takes.
        arguments: of this interpreter.
    """

    name: str
    what: str
    seconds: float
    arguments: Sequence[str]


class Outcome(NamedTuple):
    """What became of a part.

    Attributes:
        status: DONE, STOPPED, FAILED or NOT_RUN.
        why: if it is not DONE.
        seconds: that it took.
    """

    status: str
    why: str = ""
    seconds: float = 0.0


def groups(options: argparse.Namespace) -> list[list[Part]]:
    """The parts in their order; those of a group, which time nothing, side by side."""
    out, device = options.out, options.device
    rehearse = options.rehearse
    grid = {4: "tiny", 1: "one"}[options.sizes] if rehearse else "small"
    devices = ["cpu"] if rehearse else ["cpu", "cuda"]
    short = ["--seconds", "0.05" if rehearse else "0.5", "--rounds", "1"]
    timed = ["--device", device, *short]
    timed += ["--note", REHEARSAL, "--threads", "1"] if rehearse else []
    update = [
        *("-m", "benchmarks.speed.update", "--grid", grid, *timed, "--peers"),
        *("--subjects", "jax", "torch", "sb3-contrib", "--out", f"{out}/throughput"),
    ]
    steps = ["--total-steps", "1600"] if rehearse else []
    seeds = ["compiled-16"] if options.sizes > 1 else []
    return [
        [Part("doctor", "set-up of the machine", 60, ["-c", DOCTOR])],
        [
            Part(
                "parity", "equality of the backends: float32, float64, TF32", 200,
                [
                    *("-m", "parity_tests", "--quick", "--out", f"{out}/parity"),
                    *("--devices", *devices),
                ],
            ),
            Part(
                "determinism", "two deterministic runs of each backend, byte by byte",
                150,
                [
                    *("-m", "benchmarks.learning.determinism", "--device", device),
                    *(*steps, "--out", f"{out}/determinism"),
                ],
            ),
            Part(
                "training", "Pendulum-v1 trained to its target on the device", 200,
                [
                    *("-m", "benchmarks.learning.training", "--envs", "Pendulum-v1"),
                    *("--backends", "jax", "torch", "--seeds", "0", *steps),
                    *("--device", device, "--out", f"{out}/training"),
                    *("--runs", f"{options.work}/study"),
                ],
            ),
        ],
        [
            Part(
                "update", "one update, and the kernels that it launches", 160,
                [*update, "--rows", "once"],
            )
        ],
        [
            Part(
                "compiled", "the compiled loop, 2,048 environments, 16 seeds", 90,
                [
                    *("-m", "benchmarks.learning.compiled", "--speed", *timed),
                    *("--num-envs", "16" if rehearse else "2048"),
                    *("--subjects", "compiled", *seeds),
                    *("--out", f"{out}/compiled"),
                ],
            )
        ],
        [
            Part(
                "memory", "peak memory of a million samples", 60,
                [
                    *("-m", "benchmarks.speed.batch_scaling", *timed),
                    *("--samples", "16384" if rehearse else "1000000"),
                    *("--out", f"{out}/throughput"),
                ],
            )
        ],
        [
            Part(
                "precisions", "the same updates in TF32 and bfloat16", 200,
                [*update, "--rows", "precisions"],
            )
        ],
    ]  # fmt: skip


def chosen(options: argparse.Namespace) -> list[list[Part]]:
    """Of `groups`, the parts that were asked for."""
    asked = options.parts
    found = (
        [part for part in group if not asked or part.name in asked]
        for group in groups(options)
    )
    return [group for group in found if group]


DOCTOR = "import sys; from trpo.cli.doctor import main; sys.exit(main())"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing; the exit status: 1 if something failed, 2 without a GPU."""
    options = parsed(arguments)
    environment = environment_of(options)
    if not options.rehearse:
        found = probe(environment)
        print("; ".join(f"{name}: {gpus}" for name, gpus in found.items()), flush=True)
        if not any(isinstance(gpus, list) and gpus for gpus in found.values()):
            print("No GPU: nothing was run. --rehearse runs every line on the CPU.")
            return 2
        options.gpus = found
    book = Book(options)
    end = time.monotonic() + 60.0 * options.minutes
    for group in book.in_order(chosen(options)):
        run_side_by_side(group, book, environment, end)
    book.write_page(tables(options, environment))
    print(f"wrote {book.page}")
    return int(any(outcome.status == FAILED for outcome in book.outcomes.values()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--out", type=Path, help=f"directory of the results; by default {OWN}")
    add("--publish", action="store_true", help="write to the repository's results")
    add("--minutes", type=float, default=8.0, help="most that all parts take together")
    add("--device", default="cuda", help="such as cuda:1")
    add("--rehearse", action="store_true", help=REHEARSAL)
    add("--sizes", type=int, choices=(1, 4), default=4, help="of a rehearsal")
    add("--parts", nargs="+", default=[], help="only these, such as parity update")
    add("--wheels", type=Path, default=ROOT / ".wheels", help="wheels brought along")
    options = parser.parse_args(arguments)
    if options.publish and (options.out or options.rehearse):
        parser.error("expected one of --publish, --out and --rehearse.")
    options.out = options.out or (COMMITTED if options.publish else OWN)
    # What is no measurement says so in its path too.
    options.out = (options.out / ("rehearsal" * options.rehearse)).resolve()
    options.work = Path("runs/gpu" + "-rehearsal" * options.rehearse).resolve()
    options.device = "cpu" if options.rehearse else options.device
    options.gpus = {}
    return options


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Of every process: this checkout, what was brought along, no memory hoarded."""
    packages = options.work / "packages"
    unpacked = unpack(options.wheels, packages)
    sys.path.append(str(packages))
    if unpacked:
        print(f"unpacked {', '.join(unpacked)}", flush=True)
    paths = [str(ROOT), str(packages), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "MPLBACKEND": "agg",
    }
    if options.rehearse:
        quick = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        environment |= {**quick, "XLA_FLAGS": QUICK_FLAGS}
    return environment


def unpack(wheels: Path, into: Path) -> list[str]:
    """Unpack the wheels of packages that are not installed; their names.

    Only those for this interpreter, and none that is there already.
    """
    found = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, *_, python, abi, _ = wheel.stem.split("-")
        own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        fits = "py3" in python or own in python or "abi3" in abi
        folder = into / f"{name}-{version}.dist-info"
        if not fits or folder.exists() or _installed(name):
            continue
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
        found.append(name)
    return found


def _installed(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


def probe(environment: dict[str, str]) -> dict[str, Any]:
    """Framework -> the GPUs that it finds, or why it can't be asked."""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120,
            check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {"PyTorch and JAX": str(error)}


class Book:
    """What became of each part, on disk after each of them.

    Raises:
        SystemExit: the directory's results are of another kind of run.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.path, self.page = options.out / "gpu.json", options.out / "README.md"
        self.outcomes: dict[str, Outcome] = {}
        self.about: dict[str, Any] = {
            "device": options.device,
            "note": REHEARSAL if options.rehearse else "",
            "sizes": options.sizes,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "gpus": options.gpus,
            "packages": {name: _installed(name) or "none" for name in PACKAGES},
        }
        if self.path.exists():
            known = json.loads(self.path.read_text())
            for name in ("device", "note", "sizes"):
                if known["about"][name] != self.about[name]:
                    sys.exit(
                        f"error: `out`: expected a run with {name} "
                        f"{self.about[name]!r} in {options.out}, got "
                        f"{known['about'][name]!r}. Give another --out."
                    )
            self.outcomes = {n: Outcome(*x) for n, x in known["parts"].items()}

    def in_order(self, found: list[list[Part]]) -> Iterator[list[Part]]:
        """What is missing: what was never tried first, then what did not end."""
        before = dict(self.outcomes)
        done = {name for name, outcome in before.items() if outcome.status == DONE}
        tried = {name for name, outcome in before.items() if outcome.seconds} - done
        for again in (False, True):
            for group in found:
                missing = [part for part in group if part.name not in done]
                now = [part for part in missing if (part.name in tried) == again]
                if now:
                    yield now

    def put(self, part: Part, outcome: Outcome) -> None:
        """Keep what became of a part."""
        self.outcomes[part.name] = outcome
        why = f": {outcome.why}" if outcome.why else ""
        took = f"{outcome.seconds:.0f} s"
        print(f"{part.name}: {outcome.status}{why} ({took})", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        content = {"about": self.about, "parts": self.outcomes}
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.path)

    def write_page(self, found: str) -> None:
        """Write the report: what ran, then the tables of what it found."""
        about = self.about
        packages = ", ".join(f"{name} {x}" for name, x in about["packages"].items())
        title = "# GPU" + (f": {about['note']}" if about["note"] else "")
        lines = [
            title,
            "",
            "Written by `python -m benchmarks.gpu`.",
            "",
            f"- device {about['device']}; {json.dumps(about['gpus'])}",
            f"- Python {about['python']}, {about['platform']}; {packages}",
            "",
            "| part | what | status | s |",
            "| --- | --- | --- | ---: |",
        ]
        for part in (part for group in chosen(self.options) for part in group):
            status, why, seconds = self.outcomes.get(
                part.name, Outcome(NOT_RUN, "no time left")
            )
            said = f"{status}: {why}" if why else status
            lines.append(f"| {part.name} | {part.what} | {said} | {seconds:.0f} |")
        self.page.parent.mkdir(parents=True, exist_ok=True)
        self.page.write_text("\n".join([*lines, "", found.strip()]).strip() + "\n")


def run_side_by_side(
    group: Sequence[Part], book: Book, environment: dict[str, str], end: float
) -> None:
    """Run parts at once, each until it ends, or its time or that of all is over."""
    logs = book.options.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    start, by_name = time.monotonic(), {part.name: part for part in group}
    running: dict[str, subprocess.Popen] = {}
    left, slack = end - start, 2.0 if book.options.rehearse else 1.0
    if left < LEAST_SECONDS:
        for part in group:
            book.put(part, Outcome(NOT_RUN, "no time left"))
        return
    try:
        for part in group:
            print(f"{part.name} …", flush=True)
            own = OF_PART.get(part.name, {})
            with (logs / f"{part.name}.txt").open("wb") as log:
                running[part.name] = subprocess.Popen(
                    [sys.executable, *part.arguments], cwd=ROOT, stdout=log,
                    stderr=subprocess.STDOUT, env={**environment, **own},
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
        while running:
            time.sleep(0.2)
            seconds = time.monotonic() - start
            for name, process in list(running.items()):
                part = by_name[name]
                over = seconds > min(slack * part.seconds, left)
                if process.poll() is None and not over:
                    continue
                _end(process)
                del running[name]
                text = (logs / f"{name}.txt").read_text(errors="replace")
                book.put(part, outcome_of(process.returncode, text, over, seconds))
    finally:
        for process in running.values():
            _end(process)


def outcome_of(status: int, text: str, over: bool, seconds: float) -> Outcome:
    """What became of a process, from its exit status and what it printed."""
    if status == 0:
        return Outcome(DONE, seconds=seconds)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["silent"]
    if over:
        return Outcome(STOPPED, "out of time; call again to go on", seconds)
    if missing := MISSING.search(lines[-1]):
        return Outcome(NOT_RUN, f"no {missing[1].partition('.')[0]}", seconds)
    return Outcome(FAILED, lines[-1][:200].replace("|", "/"), seconds)


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)


def tables(options: argparse.Namespace, environment: dict[str, str]) -> str:
    """Tables of what was found, by the commands that know its files."""
    command = [sys.executable, "-m", "benchmarks.gpu_report"]
    try:
        done = subprocess.run(
            [*command, str(options.out), options.device], cwd=ROOT, env=environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "Tables: not run: out of time."
    if done.returncode == 0:
        return done.stdout
    outcome = outcome_of(done.returncode, done.stderr, False, 0.0)
    return f"Tables: {outcome.status}: {outcome.why}."


if __name__ == "__main__":
    sys.exit(main())
