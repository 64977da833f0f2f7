"""Every fault at full size, with a table at the end.

    python -m benchmarks.faults
    python -m benchmarks.faults --fraction 0.1 --only checkpoint
    python -m benchmarks.faults --peer-python PATH   (one that has the peers extra)

A row that is done is kept in `--runs` and not run again; `--fresh` forgets them. The
table keeps the rows that it has and this call does not.
"""

import dataclasses
import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.command import Output, run_command
from benchmarks.faults import (
    accepted_configurations as taken,
    checkpoints,
    disks,
    orphans,
    peers,
    power_cut,
    random_configurations as configurations,
    ranks,
    runs,
    soak,
    updates,
    workers,
)
from benchmarks.faults.report import Result, read, write
from benchmarks.faults.row import Row, Scenario
from benchmarks.faults.untrusted import places, runs as strangers


RESULTS = "reliability"
OURS = [
    scenario
    for module in (updates, checkpoints, power_cut, workers, orphans, disks,
                   configurations, taken, runs, ranks, strangers, places, soak)
    for scenario in module.SCENARIOS
]  # fmt: skip


@dataclasses.dataclass
class Arguments(Output):
    """Make every fault happen, and count what is lost."""

    fraction: float = 1.0
    """Of the tries."""
    only: str = ""
    """Rows whose group or fault has this in it."""
    peer_python: Path | None = None
    """Interpreter that has the `peers` extra, for the rows of sb3-contrib."""
    runs: Path = Path("runs/torture")
    """Where finished rows are kept."""
    fresh: bool = False
    """Run all rows again."""


def main(arguments: Arguments) -> int:
    """Run what is missing; the exit status is 1 if one of our rows lost something."""
    console = Console()
    chosen = [*OURS]
    if arguments.peer_python is not None:
        chosen += peers.scenarios(arguments.peer_python)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    store = arguments.runs / f"rows-{arguments.fraction:g}.json"
    if arguments.fresh:
        store.unlink(missing_ok=True)
    done = json.loads(store.read_text()) if store.exists() else {}
    scenarios = {"/".join((s.subject, s.group, s.fault)): s for s in chosen}
    for key, scenario in scenarios.items():
        if key in done or arguments.only not in key:
            continue
        result = _result(scenario, arguments.fraction, console)
        done[key] = dataclasses.asdict(result)
        store.write_text(json.dumps(done, indent=1))
    folder = arguments.folder(RESULTS)
    published = [] if arguments.fresh else read(folder)
    kept = {"/".join((r.subject, r.group, r.fault)): r for r in published}
    kept |= {key: Result(**row) for key, row in done.items()}
    # Those of other calls at the end.
    order = [*scenarios, *(key for key in kept if key not in scenarios)]
    results = [kept[key] for key in order if key in kept]
    write(results, folder, console)
    return int(any(row["lost"] for row in done.values() if row["subject"] == "trpo"))


def _result(scenario: Scenario, fraction: float, console: Console) -> Result:
    start = time.perf_counter()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        total = max(scenario.least, round(scenario.tries * fraction))
        total = total if scenario.tries else None
        task = bar.add_task(scenario.fault, total=total)
        try:
            row = scenario.at(fraction, lambda: bar.advance(task))
        except Exception as error:
            row = Row(1)
            row.lost = [f"the row broke: {type(error).__name__}: {error}"]
    return Result(
        scenario.subject, scenario.group, scenario.fault, row.done, row.survived,
        len(row.lost), time.perf_counter() - start, row.note, row.lost[:3],
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main, Arguments)
