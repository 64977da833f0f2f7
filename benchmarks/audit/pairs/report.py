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
