"""A stranger's run directory: nothing of it is executed, nothing leaves its place."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

from benchmarks.faults.checkpoints import Touch, scratch
from benchmarks.faults.row import Row, Scenario, require
from benchmarks.faults.runs import BACKENDS, config
from benchmarks.faults.untrusted.spoilt_runs import made_run
from trpo.runs.directory import Moment, RunDirectory
from trpo.training.trainer import Trainer


# Tries of one process.
CHUNK = 1000
# What loading may never do: run code that is data, write a file, or connect.
WATCHED = """
import pathlib, sys
backend, place = sys.argv[1:]
sys.path.append(str(pathlib.Path(place).parent))  # Its modules can be found.
import benchmarks.faults.runs
from trpo.agent.make import load_backend
from trpo.runs.directory import load_agent
import numpy as np
load_backend(backend).TRPOAgent(3, 2, -1, 1, "cpu", (4,), (4,)).act(np.zeros((1, 3)))
seen = []
def watch(event, arguments):
    if event in ("pickle.find_class", "socket.connect", "socket.bind", "os.system",
                 "subprocess.Popen", "os.exec", "os.posix_spawn", "marshal.loads",
                 "marshal.load", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree"):
        seen.append((event, str(arguments)[:80]))
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(flags, int) and flags & 0o3 and path not in ("/dev/null",):
            seen.append((event, str(path)))
sys.addaudithook(watch)
try:
    load_agent(place, backend=backend)
    print("loaded", seen)
except ValueError as error:
    print("refused", seen)
"""

KINDS = 9


def _evil(directory: RunDirectory, touched: Path, index: int) -> None:
    payload = pickle.dumps(Touch(touched))
    newest = max(directory.checkpoints.iterdir())
    text = json.loads((directory.path / "config.json").read_text())
    kinds = (
        lambda: (newest / "state.safetensors").write_bytes(payload),
        lambda: (newest / "manifest.json").write_bytes(payload),
        lambda: (directory.path / "config.json").write_bytes(payload),
        lambda: (directory.path / "data.pkl").write_bytes(payload),
        lambda: (directory.path / "config.json").write_text(
            json.dumps(text | {"env_id": "../../../evil:Evil-v0"})
        ),
        lambda: (directory.path / "config.json").write_text(
            json.dumps(text | {"device": "__import__('os').system('true')"})
        ),
        lambda: (directory.path / "config.json").write_text(
            json.dumps(text | {"__reduce__": ["os.system", ["true"]]})
        ),
        lambda: (directory.path / "config.json").write_text(
            json.dumps(text | {"env_id": "run.evil:Pendulum-v1"})
        ),
        lambda: (directory.path / "config.json").write_text(
            json.dumps(text | {"modules": [str(directory.path / "evil.py")]})
        ),
    )
    assert len(kinds) == KINDS
    (directory.path / "evil.py").write_text(f"open({str(touched)!r}, 'w')")
    kinds[index % KINDS]()


def loaded(row: Row) -> None:
    """Load run directories that were made to do harm, under an audit hook."""
    for index in range(row.tries):
        backend = BACKENDS[index % 2]
        with scratch() as root, row.attempt(f"{backend}, kind {index // 2 % KINDS}"):
            settings, touched = config(backend), root / "touched"
            directory = RunDirectory(root / "run")
            with Trainer(settings) as trainer:
                state, spec = trainer.get_state(), trainer.spec
                directory.save(Moment(settings, spec, 0, state, {}))
            _evil(directory, touched, index // 2)
            command = [sys.executable, "-c", WATCHED, backend, str(directory.path)]
            result = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=600
            )
            require(result.returncode == 0, result.stderr[-300:])
            last = result.stdout.strip().splitlines()[-1]
            require(last.endswith("[]"), last)
            require(not touched.exists(), "a payload ran")


def spoilt(row: Row) -> None:
    """Give spoilt files of a run directory to all that reads them."""
    with scratch() as root:
        run = made_run(root)
        for number in range(0, row.tries, CHUNK):
            _counted(row, "readers", str(run), min(CHUNK, row.tries - number), number)


def commanded(row: Row) -> None:
    """Give spoilt run directories to the commands, in either backend."""
    for index, backend in enumerate(BACKENDS):
        tries = (row.tries + index) // len(BACKENDS)
        for number in range(0, tries, CHUNK):
            _counted(row, "commands", backend, min(CHUNK, tries - number), number)


def _counted(row: Row, part: str, what: str, tries: int, seed: int) -> None:
    """Tries in a process of their own, which ends at the first that is lost."""
    module = f"benchmarks.faults.untrusted.spoilt_{part}"
    command = [sys.executable, "-m", module, what, str(tries), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        row.survived += int(result.stdout.split()[0])
    else:
        end = " ".join(result.stderr[-500:].split())
        row.lost.append(f"{part}, {what}, seed {seed}: {end}")


SCENARIOS = [
    Scenario("stranger", "a run directory made to do harm", 2 * KINDS, loaded),
    Scenario("stranger", "any file spoilt: all readers", 20_000, spoilt),
    Scenario("stranger", "any file spoilt: all commands", 1_000, commanded, least=20),
]
