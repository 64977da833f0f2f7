"""The page of the sixty pairs, written from the result file and the table."""

import json
from pathlib import Path

from benchmarks.audit.pairs.table import ROWS


def page(folder: Path) -> str:
    """The table as Markdown, from `pairs.json`."""
    stored = json.loads((folder / "pairs.json").read_text())
    results, counts = stored["pairs"], stored["counts"]
    lines = [
        "# Sixty pairs from public sources",
        "",
        f"Verdict right: {counts['verdicts']} of {len(results)}. First divergent stage "
        f"right: {counts['firsts']} of {counts['different']}. Seconds in all: "
        f"{counts['seconds']}.",
        "",
        "The first run, before anything was changed on account of it: 58 verdicts and "
        "28 stages. Wrong were `attention:transformer_block` (undecided) and "
        "`optimisers:warmed_sgd` (failed, in part rightly: see its row), and the "
        "stage of `layers:gelu_defaults` and `batch_norm_running_variance` (named "
        "defaults). What is above is after the proof, and that one pair, were mended; "
        "other pairs than these tell how it does on what it has not seen.",
        "",
        "| Pair | Truth | Verdict | First to part | Found | Why | Source | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, result in zip(ROWS, results, strict=True):
        verdict = result["verdict"] + ("" if result["verdict right"] else " (wrong)")
        found = result["found first"] or ""
        found += "" if result["first right"] else " (wrong)"
        lines.append(
            f"| `{row.pair}` | {row.truth} | {verdict} | {row.first or ''} | {found} | "
            f"{row.why}{'; ' + row.remark if row.remark else ''} | {row.source} | "
            f"{result['seconds']} |"
        )
    return "\n".join(lines) + "\n"
