"""What the benchmarks' commands share: where their output goes, and how they end.

Results are committed. A benchmark changes none of them unless `--publish` is given:
what it measures is of the machine that it runs on.
"""

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trpo.cli.arguments import parse


REPOSITORY = Path(__file__).resolve().parents[1]
COMMITTED = REPOSITORY / "benchmarks" / "results"
OWN = Path("runs") / "results"
MORE_OPTIONS = "BENCHMARK_OPTIONS"
"""Environment variable of options that count as if they were typed last."""


@dataclasses.dataclass(kw_only=True)
class Output:
    """Where results are written, and read where a command goes on from them."""

    out: Path | None = None
    """Directory of the results; by default one under runs/results."""
    publish: bool = False
    """Write to this repository's own results and pages instead."""

    def folder(self, name: str) -> Path:
        """The directory of the results called `name`.

        Raises:
            ValueError: both a directory and the repository's own are asked for.
        """
        if self.publish and self.out is not None:
            raise ValueError("expected one of --out and --publish, got both.")
        return self.out or (COMMITTED if self.publish else OWN) / name


def run_command(main: Callable[[Any], int | None], arguments: type) -> None:
    """Parse the command line, run, and exit: one line where something was refused.

    Args:
        main: What to run.
        arguments: The dataclass of its arguments.
    """
    try:
        name = sys.modules[arguments.__module__].__spec__
        command = f"python -m {name.name.removesuffix('.__main__')}" if name else ""
        # Not for the benchmarks that this one starts.
        more = shlex.split(os.environ.pop(MORE_OPTIONS, ""))
        sys.exit(main(parse(arguments, [*sys.argv[1:], *more], command)))
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
