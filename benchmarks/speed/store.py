"""Raw samples in one JSON file, written after each cell, so that a run can resume."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.cell import Cell


# What its folder is called among the results.
RESULTS = "throughput"


class Store:
    """Samples of one benchmark on one device.

    Args:
        path: The JSON file; read if there, else made by the first `add`.
        about: Fingerprint and settings that all samples share.
        fresh: Start anew, whatever the file holds.

    Raises:
        ValueError: the file's samples were taken otherwise, so they don't mix.
    """

    def __init__(
        self, path: Path, about: dict[str, Any] | None = None, *, fresh: bool = False
    ) -> None:
        self.path = path
        self.about: dict[str, Any] = about or {}
        self.samples: list[dict[str, Any]] = []
        if path.exists() and not fresh:
            content = json.loads(path.read_text())
            # Through JSON, as tuples come back as lists.
            differing = _differences(content["about"], json.loads(json.dumps(about)))
            if about is not None and differing:
                raise ValueError(
                    f"`out`: expected samples of this machine and these settings in "
                    f"{path}, but they differ in {', '.join(differing)}. Give another "
                    "--out, or --fresh to throw them away."
                )
            self.about, self.samples = content["about"], content["samples"]
        self._by_cell: dict[Cell, list[dict[str, Any]]] = {}
        for sample in self.samples:
            self._index(Cell.from_json(sample["cell"]), sample)

    def _index(self, cell: Cell, sample: dict[str, Any]) -> None:
        self._by_cell.setdefault(cell, []).append(sample)

    def add(self, cell: Cell, number: int, result: dict[str, Any]) -> None:
        """Keep the result of a cell's round `number`, on disk at once."""
        sample = {"cell": cell.to_json(), "round": number, "load": _load(), **result}
        self.samples.append(sample)
        self._index(cell, sample)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        lines = ",\n".join(json.dumps(sample) for sample in self.samples)
        about = json.dumps(self.about, indent=1)
        temporary.write_text(f'{{"about": {about},\n"samples": [\n{lines}\n]}}\n')
        temporary.replace(self.path)

    def is_done(self, cell: Cell, number: int) -> bool:
        """Whether this round was taken, or the cell can't be measured at all."""
        return any(
            sample["round"] == number or "skipped" in sample or "fails" in sample
            for sample in self.of(cell)
        )

    def of(self, cell: Cell) -> list[dict[str, Any]]:
        """All samples of a cell, in order of rounds."""
        return sorted(self._by_cell.get(cell, ()), key=lambda sample: sample["round"])

    def good(self, cell: Cell) -> list[dict[str, Any]]:
        """The samples of a cell that hold a measurement."""
        return [s for s in self.of(cell) if not {"skipped", "fails"} & set(s)]

    def cells(self, where: Callable[[Cell], bool] = lambda _: True) -> Iterator[Cell]:
        """Each cell once, in the order of its first sample."""
        return (cell for cell in self._by_cell if where(cell))

    def why_not(self, cell: Cell) -> str:
        """Why a cell has no measurement; empty if it has or was not asked for."""
        for sample in self.of(cell):
            if "skipped" in sample:
                return sample["skipped"]
            if "fails" in sample:
                return f"fails: {sample['fails']}"
        return ""


def _differences(old: Any, new: Any) -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return []
    return sorted(
        name
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name)
    )  # fmt: skip


def _load() -> float:
    """Processes that ran or waited in the last minute; a quiet machine has about 1."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0


def store_path(out: Path, benchmark: str, device: str) -> Path:
    """Where the samples of a benchmark on a device are kept."""
    return out / f"{benchmark}-{device.replace(':', '')}.json"
