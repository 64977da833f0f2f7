"""Faults of checkpoints: what was saved once is found again, or refused in words."""

import json
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.numpy

from benchmarks.faults.row import Row, Scenario, require
from benchmarks.speed.timing import peak_bytes
from trpo.common.tensors import describe, encode_manifest, sha256
from trpo.runs.checkpoint import (
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointError,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


SAVE_FOR_EVER = """
import sys
{defect}
import numpy as np
from pathlib import Path
from trpo.runs.checkpoint import newest_checkpoint, save_checkpoint

directory = Path(sys.argv[1])
saves = newest_checkpoint(directory)[0].metadata["saves"] if directory.exists() else 0
while True:
    saves += 1
    arrays = {{f"layers.{{i}}": np.full((64, 64), float(saves)) for i in range(8)}}
    # Every third save is a second one of the same step, which has to be replaced.
    step = saves - saves // 3
    save_checkpoint(directory, step, arrays, {{"saves": saves}}, keep=1 + saves % 2)
    print(saves, flush=True)
"""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="trpo-torture-") as name:
        yield Path(name)


def killed(row: Row, defect: str = "") -> None:
    """Kill -9 at a random moment of a loop that saves."""
    moments, acknowledged = random.Random(0), 0
    with scratch() as root:
        for index in range(row.tries):
            code = SAVE_FOR_EVER.format(defect=defect)
            command = [sys.executable, "-c", code, str(root / "checkpoints")]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            said = [*map(int, process.stdout.read().split())]
            process.stdout.close()
            process.wait()
            with row.attempt(f"kill {index}"):
                acknowledged = max([acknowledged, int(first), *said])
                checkpoint, errors = newest_checkpoint(root / "checkpoints")
                require(not errors, f"unreadable: {errors}")
                saves = checkpoint.metadata["saves"]
                require(saves >= acknowledged, f"{saves} is older than {acknowledged}")
                whole = all((a == saves).all() for a in checkpoint.arrays.values())
                require(whole, "numbers of another save")
            if row.lost and defect:
                return


def _saved(root: Path) -> tuple[Path, Path]:
    """An older and a newer checkpoint."""
    draw = np.random.default_rng(0)
    arrays = {
        "policy.layers.0.weight": draw.standard_normal((32, 32)).astype(np.float32),
        "policy.layers.1.weight": draw.standard_normal((32, 32)).astype(np.float32),
        "value.bias": draw.standard_normal(7),
        "random.seed": np.array(3, dtype=np.int64),
    }
    paths = [save_checkpoint(root, step, arrays, {"n": step}, 2) for step in (1, 2)]
    return paths[0], paths[1]


def _falls_back(root: Path, newer: Path) -> None:
    """Require that the newer is refused in words, and the older is found."""
    before = peak_bytes()
    try:
        load_checkpoint(newer)
    except CheckpointError:
        pass
    else:
        require(False, "a damaged checkpoint was loaded")
    checkpoint, errors = newest_checkpoint(root)
    require(checkpoint.step == 1 and len(errors) == 1, "the older one was not found")
    grown = (peak_bytes() - before) / 2**30
    require(grown < 4.0, f"{grown:.1f} GiB more of memory were in use")


def damaged(row: Row) -> None:
    """Truncations at each KiB and random places, and flipped bits of every byte."""
    draw = random.Random(3)
    with scratch() as root:
        _, newer = _saved(root)
        whole = {n: (newer / n).read_bytes() for n in (STATE_FILE, MANIFEST_FILE)}
        for index in range(row.tries):
            name = draw.choice(list(whole))
            content = bytearray(whole[name])
            if index % 4 == 0:
                at = index // 4 * 1024
                at = at if at < len(content) else draw.randrange(len(content))
                what, content = f"{name} cut at {at}", content[:at]
            else:
                at = draw.randrange(len(content))
                content[at] ^= 1 << draw.randrange(8)
                what = f"{name}, byte {at} flipped"
            (newer / name).write_bytes(content)
            with row.attempt(what):
                _falls_back(root, newer)
            (newer / name).write_bytes(whole[name])


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        """What unpickling calls."""
        return open, (self.path, "w")


def forge(path: Path, content: bytes, **changes: object) -> None:
    """Put `content` in place of the state, under a manifest that vouches for it."""
    manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    del manifest["manifest_sha256"]
    (path / STATE_FILE).write_bytes(content)
    manifest |= {"state_sha256": sha256(content), **changes}
    (path / MANIFEST_FILE).write_bytes(encode_manifest(manifest))


def _forgeries(path: Path, outside: Path) -> Iterator[tuple[str, object]]:
    """Names of forgeries and what makes them."""
    state = (path / STATE_FILE).read_bytes()
    arrays = safetensors.numpy.load(state)
    tensors = json.loads((path / MANIFEST_FILE).read_bytes())["tensors"]
    one, two = "policy.layers.0.weight", "policy.layers.1.weight"
    swapped = arrays | {one: arrays[two], two: arrays[one]}
    save = safetensors.numpy.save

    def described(changed: dict) -> dict:
        return {"content": save(changed), "tensors": describe(changed)}

    poison = arrays | {one: np.full_like(arrays[one], np.nan)}
    yield "tensors swapped", {"content": save(swapped)}
    yield "another shape", {"content": save(arrays | {one: arrays[one].reshape(-1)})}
    yield "a tensor missing", {"content": save({one: arrays[one]})}
    yield "NaN weights", described(poison)
    yield "a future version", {"content": state, "format_version": 99}
    climbing = tensors | {"../../outside": tensors[one]}
    yield "a path in a name", {"content": state, "tensors": climbing}
    yield "a header of 10 GB", {"content": struct.pack("<Q", 10 * 2**30) + b"{}"}
    huge = tensors | {one: tensors[one] | {"shape": [2**40, 2**40]}}
    yield "a tensor of 2^80 numbers", {"content": state, "tensors": huge}
    yield "a pickle", {"content": pickle.dumps(Touch(outside))}
    yield "a state of 10 GB", 10 * 2**30
    yield "a manifest of 10 GB", -10 * 2**30


def forged(row: Row) -> None:
    """Files made to do harm, whose checksums are right."""
    row.tries = 11 * max(1, row.tries // 11)
    events: list[str] = []
    watching = [True]

    def watch(event: str, _: tuple) -> None:
        if watching and event == "pickle.find_class":
            events.append(event)

    sys.addaudithook(watch)
    with scratch() as root:
        _, newer = _saved(root / "run")
        kept = root / "kept"
        shutil.copytree(newer, kept)
        for _ in range(row.tries // 11):
            for what, forgery in _forgeries(newer, root / "touched"):
                if isinstance(forgery, dict):
                    forge(newer, **forgery)
                else:
                    name = STATE_FILE if int(str(forgery)) > 0 else MANIFEST_FILE
                    with (newer / name).open("r+b") as file:
                        file.truncate(abs(int(str(forgery))))
                with row.attempt(what):
                    _falls_back(root / "run", newer)
                    require(not events, "something was unpickled")
                    require(not (root / "touched").exists(), "a payload ran")
                shutil.rmtree(newer)
                shutil.copytree(kept, newer)
    watching.clear()


def orphans(row: Row) -> None:
    """Leftovers of killed saves are ignored by readers and swept by the next save."""
    for index in range(row.tries):
        with scratch() as root, row.attempt(index):
            older, newer = _saved(root)
            for name in (".tmp-checkpoint-000000000003", f".old-{newer.name}"):
                shutil.copytree(older, root / name)
            (root / ".tmp-checkpoint-000000000004").mkdir()
            require(newest_checkpoint(root)[0].step == 2, "a leftover was read")
            save_checkpoint(root, 3, {"w": np.ones(3)}, {}, 9)
            left = [path.name for path in root.iterdir() if path.name[0] == "."]
            require(not left, f"not swept: {left}")


SCENARIOS = [
    Scenario("checkpoint", "kill -9 in a save loop", 500, killed),
    Scenario("checkpoint", "truncated, or a bit flipped", 2000, damaged),
    Scenario("checkpoint", "forged, with right checksums", 110, forged),
    Scenario("checkpoint", "leftovers of killed saves", 50, orphans),
]
