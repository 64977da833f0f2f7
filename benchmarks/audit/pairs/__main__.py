"""Prove all sixty pairs, and compare verdicts and first divergences with the truth.

    python -m benchmarks.audit.pairs [--only PART-OF-A-NAME] [--seeds N]

writes `benchmarks/results/audit/pairs.json` and `pairs.md`, if all were run.
"""

import argparse
import importlib
import json
import time
from typing import Any

from benchmarks.audit.pairs.report import page
from benchmarks.audit.pairs.table import ROWS, Row
from benchmarks.command import REPOSITORY
from parity_kit import prove
from parity_kit.proof import shared


RESULTS = REPOSITORY / "benchmarks" / "results" / "audit"
VERDICTS = {"equal": "passed", "different": "failed"}


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


def main() -> None:
    """Prove, print each as it is done, and write the results."""
    parser = argparse.ArgumentParser(description="prove the sixty pairs")
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.only in row.pair]
    results = []
    with shared(None) as processes:
        for row in rows:
            results.append(proved(row, arguments.seeds, processes))
            right = results[-1]["verdict right"] and results[-1]["first right"]
            print("ok   " if right else "WRONG", json.dumps(results[-1]), flush=True)
    different = [result for result in results if result["truth"] == "different"]
    counts = {
        "verdicts": sum(result["verdict right"] for result in results),
        "firsts": sum(result["first right"] for result in different),
        "different": len(different),
        "seconds": round(sum(result["seconds"] for result in results)),
    }
    print(counts)
    if rows == ROWS:
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"counts": counts, "pairs": results}, indent=1)
        (RESULTS / "pairs.json").write_text(text + "\n")
        (RESULTS / "pairs.md").write_text(page(RESULTS))


if __name__ == "__main__":
    main()
