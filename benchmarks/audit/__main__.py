"""Runs the audit's rows: each by one command, all of them without a name.

    python -m benchmarks.audit layers ["layer norm" ...]
    python -m benchmarks.audit optimisers [adam ...]

Writes NAME.json and NAME.md if all rows were run.
"""

import importlib
import json
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Literal

import tyro

from benchmarks.audit import report
from benchmarks.audit.rows import Row
from benchmarks.command import Output, run_command
from parity_kit import Certificate, Pair, prove
from parity_kit.processes import Processes


RESULTS = "audit"


@dataclass
class Arguments(Output):
    """Compare parts of both frameworks as they come, and after a stated setting."""

    table: Annotated[Literal["layers", "optimisers"], tyro.conf.Positional]
    """Which rows."""
    rows: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of some of them; all if none is given."""
    seeds: int = 2
    """How many seeds inputs are drawn from."""
    faults: int = 4
    """Faults planted in each pair, to see whether the proof sees them."""


def main(given: Arguments) -> None:
    """Run rows and write the table."""
    rows = importlib.import_module(f"benchmarks.audit.{given.table}").ROWS
    found: list[dict] = []
    with Processes() as processes:
        for name, row in rows.items():
            if given.rows and name not in given.rows:
                continue
            found.append(_judged(name, row, given, processes))
            print(f"{name}: {found[-1]['finding']}", file=sys.stderr, flush=True)
    for row in found:
        print(f"{row['name']}: {row['finding']}. {row['meaning']}")
    if not given.rows:
        folder = given.folder(RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        stored = {"versions": _versions(), "rows": found}
        text = json.dumps(stored, indent=1, ensure_ascii=False)
        (folder / f"{given.table}.json").write_text(text + "\n")
        (folder / f"{given.table}.md").write_text(report.page(given.table, folder))


def _judged(name: str, row: Row, given: Arguments, processes: Processes) -> dict:
    as_they_come = _proved(name, row.defaults, given, processes)
    result = {
        "name": name, "torch": row.torch, "jax": row.jax, "meaning": row.meaning,
        "setting": row.setting, "defaults": as_they_come,
    }  # fmt: skip
    finding = _finding(as_they_come)
    if row.matched is not None:
        result["set"] = _proved(f"{name} (set)", row.matched, given, processes)
        after = _finding(result["set"])
        finding = f"{after} after {row.setting}" if after == "equal" else finding
        if after not in ("equal", finding):
            finding = f"{finding}; after {row.setting}: {after}"
    return {**result, "finding": finding}


def _proved(
    name: str, pair: Pair, given: Arguments, processes: Processes
) -> dict[str, object]:
    try:
        certificate = prove(
            pair, given.seeds, faults=given.faults, processes=processes, name=name,
            show=_silent,
        )  # fmt: skip
    except ValueError as error:
        return {"verdict": "undecided", "first": None, "reason": str(error)}
    return {
        "verdict": certificate.verdict,
        "first": certificate.first_divergence,
        "reason": certificate.reason,
        "worst": _worst(certificate),
    }


def _silent(text: str) -> None:
    """No line for each run."""


def _worst(certificate: Certificate) -> float:
    """Largest identity error over its bound."""
    rows = [r for r in certificate.rows if r["ring"] == "A" and r["bound"]]
    return max((float(r["value"] / r["bound"]) for r in rows), default=0.0)


def _finding(proved: dict) -> str:
    if proved["verdict"] == "passed":
        return "equal"
    if proved["verdict"] == "failed":
        return f"different: {proved['reason'].partition(':')[0]}"
    return f"undecided: {proved['reason']}"


def _versions() -> dict[str, str]:
    return {n: metadata.version(n) for n in ("torch", "jax", "flax", "optax")}


if __name__ == "__main__":
    run_command(main, Arguments)
