"""sb3-contrib's TRPO, with its zoo's settings, on the environments of our study.

    python -m benchmarks.learning.peers --envs Hopper-v5 --seeds 0 1 2
    python -m benchmarks.learning.training --report-only

Published numbers are of older environments; these runs are on the same ground as ours.
Needs the `peers` extra (`benchmarks/README.md`). A finished run is skipped, an
interrupted one starts again: sb3-contrib can't continue a run exactly.
"""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import dataclasses
import importlib.util
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.command import Output, run_command
from benchmarks.learning.peers.run import FINISHED, ZOO, progress_file
from benchmarks.learning.training.rows import curves_of, read_rows, write_rows
from trpo.common.signals import Stop
from trpo.sweeps.pool import execute, run_all


RESULTS = "training/peers"
PEER = "sb3-contrib"


@dataclasses.dataclass
class Arguments(Output):
    """Train sb3-contrib's TRPO with RL Baselines3 Zoo's settings."""

    envs: tuple[str, ...] = tuple(ZOO)
    """Gymnasium environment ids that the zoo has settings for."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each is one run."""
    total_steps: int = 1_000_000
    """Environment steps of each run."""
    workers: int = 2
    """Runs at a time, each in a process of one thread."""
    runs: Path = Path("runs/peers")
    """Where the runs' files are kept."""


@dataclasses.dataclass(frozen=True)
class PeerSpec:
    """One run of sb3-contrib; see `trpo.sweeps.pool.Spec`."""

    env_id: str
    seed: int
    steps: int

    @property
    def short_name(self) -> str:
        """What the progress bar calls it."""
        return f"{self.env_id} s{self.seed}"

    def directory(self, root: Path) -> Path:
        """Where the run's files are."""
        return root / f"{self.env_id}-{PEER}-{self.steps}-s{self.seed}"

    def check(self, root: Path) -> None:
        """Its name says all: nothing to be refused."""

    def is_done(self, root: Path) -> bool:
        """Whether it has been trained and evaluated."""
        return (self.directory(root) / FINISHED).exists()

    def steps_done(self, root: Path) -> int:
        """Environment steps so far."""
        if self.is_done(root):
            return self.steps
        path = progress_file(self.directory(root))
        text = path.read_text() if path.exists() else ""
        return int(text) if text.isdigit() else 0

    def run(self, root: Path, stop: Stop) -> bool:
        """Train and evaluate in a process of its own; whether it is done.

        Raises:
            RuntimeError: the process failed.
        """
        directory = self.directory(root)
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.learning.peers.run", self.env_id]
        command += [str(self.seed), str(self.steps), str(directory)]
        execute(command, directory / "log.txt", stop)
        return self.is_done(root)


def main(arguments: Arguments) -> int:
    """Run what is missing; returns the exit status.

    Raises:
        ValueError: the peer is not installed, or the zoo has no settings.
    """
    if importlib.util.find_spec("sb3_contrib") is None:
        raise ValueError(
            "sb3-contrib is not installed; benchmarks/README.md, 'What you need', says "
            "how to install it into a virtual environment of its own."
        )
    if unknown := sorted(set(arguments.envs) - set(ZOO)):
        raise ValueError(f"`envs`: expected some of {list(ZOO)}, got {unknown[0]!r}.")
    results = arguments.folder(RESULTS)
    results.mkdir(parents=True, exist_ok=True)
    specs = [
        PeerSpec(env_id, seed, arguments.total_steps)
        for seed in arguments.seeds
        for env_id in arguments.envs
    ]

    def save(spec: PeerSpec) -> str:
        rows = read_rows(spec.directory(arguments.runs) / FINISHED)
        path = results / f"{spec.env_id}-{PEER}.csv"
        write_rows(path, [r for r in read_rows(path) if r.seed != spec.seed] + rows)
        last = curves_of(rows)[spec.seed][-1]
        return f"{spec.env_id} {PEER} seed {spec.seed}: return {last.scores[0]:.1f}"

    return run_all(specs, arguments.runs, arguments.workers, Console(), save)


if __name__ == "__main__":
    run_command(main, Arguments)
