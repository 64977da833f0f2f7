"""Prove all sixty pairs, and compare verdicts and first divergences with the truth.

    python -m benchmarks.audit.pairs [--only PART-OF-A-NAME ...] [--seeds N]

puts what it finds in `pairs.json` and `pairs.md`.
"""

import dataclasses
import importlib
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.audit.pairs.report import page
from benchmarks.audit.pairs.table import ROWS, Row
from benchmarks.command import Output, run_command
from parity_kit import prove
from parity_kit.proof import shared


RESULTS = "audit"
VERDICTS = {"equal": "passed", "different": "failed"}


@dataclasses.dataclass
class Arguments(Output):
    """Prove the sixty pairs, and compare with the truth."""

    only: tuple[str, ...] = ("",)
    """Parts of the names of those that are proved."""
    seeds: int = 3
    """How many seeds inputs are drawn from."""


def proved(row: Row, seeds: int, processes: Any) -> dict[str, Any]:
    """One pair's verdict and first divergence, and whether they are right."""
    module, name = row.pair.split(":")
    start = time.perf_counter()
    verdict, first, reason = "misused", None, ""
    try:
        pair = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        certificate = prove(
            pair, seeds, faults=0, processes=processes, name=row.pair,
            show=lambda _: None,
        )  # fmt: skip
        verdict, first = certificate.verdict, certificate.first_divergence
        reason = "" if verdict == "passed" else certificate.summary()
    except ValueError as error:
        reason = str(error)
    return {
        "pair": row.pair,
        "truth": row.truth,
        "verdict": verdict,
        "verdict right": verdict == VERDICTS[row.truth],
        "first": row.first,
        "found first": first,
        "first right": first == row.first,
        "seconds": round(time.perf_counter() - start, 1),
        "said": reason,
    }


def keep(results: list[dict[str, Any]], folder: Path) -> dict[str, int]:
    """Put these rows in place of the stored ones; write both files, and count."""
    path = folder / "pairs.json"
    known = json.loads(path.read_text())["pairs"] if path.exists() else []
    by_name = {result["pair"]: result for result in [*known, *results]}
    kept = [by_name[row.pair] for row in ROWS if row.pair in by_name]
    different = [result for result in kept if result["truth"] == "different"]
    counts = {
        "verdicts": sum(result["verdict right"] for result in kept),
        "firsts": sum(result["first right"] for result in different),
        "different": len(different),
        "seconds": round(sum(result["seconds"] for result in kept)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"counts": counts, "pairs": kept}, indent=1) + "\n")
    if len(kept) == len(ROWS):
        (folder / "pairs.md").write_text(page(folder))
    return counts


def main(arguments: Arguments) -> None:
    """Prove, print each as it is done, and keep the results."""
    folder = arguments.folder(RESULTS)
    counts = {}
    with shared(None) as processes:
        for row in ROWS:
            if not any(part in row.pair for part in arguments.only):
                continue
            result = proved(row, arguments.seeds, processes)
            right = result["verdict right"] and result["first right"]
            print("ok   " if right else "WRONG", json.dumps(result), flush=True)
            counts = keep([result], folder)
    print(counts)


if __name__ == "__main__":
    run_command(main, Arguments)
