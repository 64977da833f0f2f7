"""What a stranger, a full disk or an editor may have made of a run directory.

Knows neither framework: the readers are tried in a process that has none.
"""

import contextlib
import io
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import safetensors.numpy
from hypothesis import HealthCheck, Phase, settings, strategies as st

from trpo.common.tensors import encode_manifest, sha256
from trpo.config.presets import preset_config
from trpo.runs.checkpoint import MANIFEST_FILE, STATE_FILE


# Does something to a file; takes its path and a folder outside of the run directory.
Make: TypeAlias = Callable[[Path, Path], Any]


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        path: of the file or folder, below the run directory.
        name: what was done to it.
        make: does it.
    """

    path: str
    name: str
    make: Make

    def __repr__(self) -> str:
        return f"{self.path}: {self.name}"


# In place of a value of a JSON file, whatever it was.
NASTY: list[Any] = [
    *(None, True, False, "", "x", [], {}, [[]], 0, -1, 1, 2, 3.7, -0.5, 1e308, -1e308),
    *(2**31, 2**53, 2**62, 2**63, 2**64, 10**400, "1", "\x1b[31m", "\ud800", "a\nb"),
    *(0.1, 1e-320, 5, 7, 1000, 10**9, "jax", "torch", "nan", [10**9], [1] * 1000),
    *("a[/b]", "../../up", "/dev/zero", [4, 4], [True], [3.7], {"a": 1}, "x" * 10**5),
    *("float64", "gru", "squashed_gaussian", "Pendulum-v1", [5], "cuda:99", "async"),
]
CELLS = ["", "x", "1e999", "nan", "-inf", "-1", "3.7", "9" * 400, "9" * 200_000, '"',
         "\0", "1,2", "\x1b[31m", "1e308", "-1e308", "0", "1e-320", "1_0", "٣",
         "²"]  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of keys to the values inside a JSON value, to three of each list."""
    pairs = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        pairs = list(enumerate(value))[:3]
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple, new: Any) -> Any:
    """The value changed at one path."""
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


def without(value: Any, path: tuple) -> Any:
    """The value without what is at one path."""
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return value


def write_json(path: Path, value: Any) -> None:
    """As it was written: a manifest with a right checksum, a forgery."""
    if path.name == MANIFEST_FILE:
        value.pop("manifest_sha256", None)
        path.write_bytes(encode_manifest(value))
    else:
        path.write_text(json.dumps(value))


def write_state(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """A state of these arrays, which its manifest fits: a forgery."""
    content = safetensors.numpy.save(arrays)
    (folder / STATE_FILE).write_bytes(content)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["tensors"] = {
        name: {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "sha256": sha256(array.tobytes()),
        }
        for name, array in arrays.items()
    }
    write_json(folder / MANIFEST_FILE, manifest | {"state_sha256": sha256(content)})


def gone(path: Path) -> None:
    """Nothing is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _socket(path: Path) -> None:
    # The name of a socket is short.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


OF_ANYTHING: dict[str, Make] = {
    "nothing": lambda _, __: None,
    "a link to a file": lambda path, outside: path.symlink_to(outside / "file"),
    "a link to a folder": lambda path, outside: path.symlink_to(outside),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a link to nothing": lambda path, _: path.symlink_to(path.with_name("none")),
    "a link to endless zeros": lambda path, _: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a socket": lambda path, _: _socket(path),
    "a folder": lambda path, _: path.mkdir(),
    "an empty file": lambda path, _: path.touch(),
}
"""What may be in the place of a file or folder, which is not there any more."""


def replaced(make: Make) -> Make:
    """As `make`, after what is there has gone."""

    def both(path: Path, outside: Path) -> None:
        gone(path)
        make(path, outside)

    return both


def rewritten(change: Callable[[bytes], bytes]) -> Make:
    """Another content."""
    return lambda path, _: path.write_bytes(change(path.read_bytes()))


Drawn: TypeAlias = tuple[str, Make]


def of_anything(draw: Any, _: Path) -> Drawn:
    """Something else is in its place."""
    name = draw(st.sampled_from(sorted(OF_ANYTHING)))
    return name, replaced(OF_ANYTHING[name])


def of_bytes(draw: Any, at: Path) -> Drawn:
    """Other bytes, fewer or more."""
    size = at.stat().st_size
    kind = draw(st.sampled_from(["cut", "NULs", "more", "bytes", "levels", "gigabyte"]))
    start = int(draw(st.floats(0.0, 1.0)) * size)
    some = draw(st.binary(min_size=1, max_size=100))
    count = draw(st.integers(1, 10**5))
    nested = (draw(st.sampled_from(["[", '{"a":'])) * count).encode()
    end = start + count % 5000
    changes: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda old: old[:start],
        "NULs": lambda old: old[:start] + b"\0" * (end - start) + old[end:],
        "more": lambda old: old + some,
        "bytes": lambda old: old[:start] + some + old[start + len(some) :],
        "levels": lambda _: nested,
    }
    name = f"{kind} at {start}, {some!r}, {count}"
    if kind == "gigabyte":
        return name, lambda path, _: os.truncate(path, 2**30)
    return name, rewritten(changes[kind])


def of_json(draw: Any, at: Path) -> Drawn:
    """A value of a JSON file is another one, or absent; or all of it is another."""
    content = json.loads(at.read_text())
    found = [*places(content), ("unknown",)]
    path, new = draw(st.sampled_from(found)), draw(st.sampled_from(NASTY))
    kind = draw(st.sampled_from(["put", "put", "without", "whole"]))
    if kind == "without" and path != ("unknown",):
        return f"without {path}", lambda p, _: write_json(p, without(content, path))
    if kind == "whole":
        text = json.dumps(draw(st.sampled_from([new, [new], {"env_id": new}])))
        return f"{new!r:.40}", lambda p, _: p.write_text(text)
    return f"{path} = {new!r:.40}", lambda p, _: write_json(p, put(content, path, new))


TABLES: dict[str, Callable[[list[str]], list[str]]] = {
    "an extra column": lambda rows: [row + ",1" for row in rows],
    "an extra cell": lambda rows: [*rows[:-1], rows[-1] + ",1"],
    "an extra name": lambda rows: [rows[0] + ",mine", *rows[1:]],
    "a name twice": lambda rows: [f"{rows[0]},step", *(row + ",1" for row in rows[1:])],
    "turned round": lambda rows: [rows[0], *rows[:0:-1]],
    "rows twice": lambda rows: [*rows, *rows[1:]],
    "no header": lambda rows: rows[1:],
    "the header alone": lambda rows: rows[:1],
    "a mark of byte order": lambda rows: ["\ufeff" + rows[0], *rows[1:]],
    "semicolons": lambda rows: [row.replace(",", ";") for row in rows],
    "quotes": lambda rows: [f'"{row}' for row in rows],
}


def of_table(draw: Any, at: Path) -> Drawn:
    """Lines or cells of a CSV file are others."""
    rows = at.read_text().splitlines()
    name = draw(st.sampled_from([*sorted(TABLES), *["a cell"] * 20]))
    if name != "a cell":
        changed = TABLES[name](rows)
    else:
        line, text = draw(st.integers(0, len(rows) - 1)), draw(st.sampled_from(CELLS))
        cells = rows[line].split(",")
        column = draw(st.integers(0, len(cells) - 1))
        name = f"cell {line, column} = {text[:20]!r}"
        cells[column] = text
        changed = [*rows[:line], ",".join(cells), *rows[line + 1 :]]
    text = "".join(row + "\r\n" for row in changed)
    return name, lambda path, _: path.write_bytes(text.encode())


def _largest(array: np.ndarray) -> np.ndarray:
    kinds = {"b": lambda _: True, "f": lambda kind: np.finfo(kind).max}
    limit = kinds.get(array.dtype.kind, lambda kind: np.iinfo(kind).max)
    return np.full_like(array, limit(array.dtype))


ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "of the largest": _largest,
    "below 0": lambda array: ~array if array.dtype == bool else -np.ones_like(array),
    "longer": lambda array: np.resize(array, (array.size + 7,)),
    "empty": lambda array: array.reshape(-1)[:0],
    "float16": lambda array: array.astype(np.float16),
    "float64": lambda array: array.astype(np.float64),
    "int64": lambda array: array.astype(np.int64),
}


def of_state(draw: Any, at: Path) -> Drawn:
    """An array of a checkpoint is another one, or absent."""
    arrays = safetensors.numpy.load(at.read_bytes())
    name = draw(st.sampled_from(sorted(arrays)))
    kind = draw(st.sampled_from([*sorted(ARRAYS), "absent"]))
    if kind == "absent":
        del arrays[name]
    else:
        arrays[name] = np.asarray(ARRAYS[kind](arrays[name]))
    return f"{name} {kind}", lambda path, _: write_state(path.parent, arrays)


# Most of what can be wrong is wrong inside.
BY_KIND = {".json": [of_json] * 3, ".csv": [of_table] * 3, ".safetensors": [of_state]}


@st.composite
def faults(draw: Any, root: Path) -> Fault:
    """What may be wrong with one file or folder of the run directory `root`."""
    at = draw(st.sampled_from(sorted(root.rglob("*"))))
    kinds = [of_anything]
    if at.is_file():
        kinds += [of_bytes, *BY_KIND.get(at.suffix, [])]
    name, make = draw(st.sampled_from(kinds))(draw, at)
    return Fault(str(at.relative_to(root)), name, make)


def _whole(fault: Fault) -> Path:
    """A checkpoint's two files are written together."""
    path = Path(fault.path)
    return path.parent if path.name in (MANIFEST_FILE, STATE_FILE) else path


@st.composite
def several(draw: Any, root: Path) -> list[Fault]:
    """One to three faults, none below another, and one of a checkpoint at most."""
    found = [draw(faults(root)) for _ in range(draw(st.integers(1, 3)))]
    kept = list({_whole(fault): fault for fault in found}.values())
    below = {
        a.path
        for a, b in itertools.permutations(kept, 2)
        if Path(a.path).is_relative_to(b.path)
    }
    return [fault for fault in kept if fault.path not in below]


def drawing(tries: int) -> settings:
    """How examples are drawn: whatever the machine's speed, and none is kept."""
    return settings(
        max_examples=tries,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )


class Outside:
    """A folder beside the run directories, which links may point to.

    Args:
        path: Of the folder, which is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "file").write_text("a user's own")
        self._before = self._seen()

    def _seen(self) -> list[tuple[str, bytes, int]]:
        files = sorted(self.path.iterdir())
        return [(f.name, f.read_bytes(), f.stat().st_mtime_ns) for f in files]

    def require_untouched(self) -> None:
        """Raise AssertionError if anything there is not as it was."""
        assert self._seen() == self._before, self._seen()


def made_run(root: Path) -> Path:
    """A run directory with nothing wrong, of each kind of file that is read."""
    # Needs a framework, which the readers' process has not.
    from trpo.runs.train import train_run

    path = root / "made"
    config = preset_config(
        "CartPole-v1", backend="torch", num_envs=2, rollout_steps=8, total_steps=64,
        policy_layer_sizes=(4,), critic_layer_sizes=(4,), value_epochs=1,
        normalize_observations=True, eval_episodes=2, eval_interval=2, save_best=True,
        checkpoint_interval=2, keep_checkpoints=2,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        train_run(config, path)
    forget_pictures(path)
    # As of a compiled run of one member, which has the same files.
    (path / "compiled.json").write_text('{"num_seeds": 1, "sweep": {}}')
    return path


def forget_pictures(run: Path) -> None:
    """Delete what nothing of ours reads, or every third fault would be in it."""
    shutil.rmtree(run / "tensorboard")
    (run / "learning_curve.png").unlink()
