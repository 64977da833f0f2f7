"""The certificate's contents."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from parity_kit.rings import Row


STAGES = ("defaults", "outputs", "loss", "gradient", "optimizer", "state")
EXIT = {"passed": 0, "failed": 1, "undecided": 2}


@dataclasses.dataclass
class Certificate:
    """Everything that a proof found.

    Attributes:
        name: the pair's.
        verdict: "passed", "failed" or "undecided".
        reason: why, in a sentence.
        first_divergence: the first stage that differs, or the name of a probe; None if
            there is none.
        rows: each comparison, with its device; see `rings.Row`.
        devices: device -> verdict, or "not run".
        remarks: what differs without making the pair unequal, and what to know.
        faults: `planted`, `seen`, and `unseen`, each with its place; empty if no fault
            was planted.
        weights: the map that was inferred, as source to paste.
        probes: the probes' names in the order in which they were met.
        facts: versions, processor, seeds.
        seconds: wall-clock time.
        reproduction: inputs and weights of the seed on which the sides first differ,
            and both sides' numbers there.
    """

    name: str = "pair"
    verdict: str = "undecided"
    reason: str = ""
    first_divergence: str | None = None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    devices: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: list[str] = dataclasses.field(default_factory=list)
    faults: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = ""
    probes: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    reproduction: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @property
    def exit_status(self) -> int:
        """0 passed, 1 failed, 2 undecided."""
        return EXIT[self.verdict]

    def add(self, rows: list[Row], device: str) -> None:
        """Take rows of a device."""
        self.rows += [{**row._asdict(), "device": device} for row in rows]

    def remark(self, text: str) -> None:
        """Take a remark, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def stage(self, quantity: str) -> str:
        """The stage, or the probe, that a quantity is of."""
        kind, _, rest = quantity.partition("/")
        return rest.partition("/")[0] if kind == "probe" else kind

    def rank(self, quantity: str) -> tuple[int, int]:
        """The quantity's place in the order in which things are computed."""
        stage = self.stage(quantity)
        if quantity.startswith("probe/"):
            return 0, self.probes.index(stage) if stage in self.probes else 0
        step = quantity.split("/")[1] if stage == "optimizer" else "0"
        return STAGES.index(stage) + 1, int(step) if step.isdigit() else 0

    def summary(self) -> str:
        """A few lines for a terminal."""
        from parity_kit.certificate import text

        return text.summary(self)

    def write(self, folder: str | Path) -> Path:
        """Write it as JSON, Markdown, one HTML page and a figure into a folder.

        Also the inputs on which the sides first differ, if they do.

        Returns:
            The folder.
        """
        from parity_kit.certificate import writing

        return writing.write(self, Path(folder))
