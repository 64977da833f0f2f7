"""The certificate as text: terminal summary, Markdown for a repository, JSON."""

import itertools
import json
import math
from typing import Any

from parity_kit.tolerances import FAIRNESS


RINGS = {
    "A": "identity, float64 error",
    "B": "precision, float32 error over its predicted spread",
    "C": "fairness, JAX's float32 error over torch's",
    "D": "decisions that differ",
}
LABELS = {"torch": "PyTorch", "jax": "JAX"}
COLUMNS = (
    "device", "ring", "case", "quantity", "subject", "value", "bound", "ok", "note",
)  # fmt: skip
TIES = ("tie", "follows")
"""Notes of decisions that differ by right, and of what follows from one."""


def of_ring(rows: list[dict[str, Any]], ring: str, device: str) -> list[dict[str, Any]]:
    """The rows of a ring on a device."""
    return [r for r in rows if (r["ring"], r["device"]) == (ring, device)]


def nearness(row: dict[str, Any]) -> tuple[bool, float]:
    """How near a row is to its bound, or how far beyond; to compare rows by."""
    # A ratio far below its bound is not ok either, and not the worst.
    bad = not row["ok"] and not row["value"] <= row["bound"]
    return bad, row["value"] / row["bound"] if row["bound"] else 0.0


def by_quantity(
    rows: list[dict[str, Any]], ring: str, device: str, subject: str = ""
) -> dict[str, dict[str, Any]]:
    """Quantity -> its worst row in a ring, of subjects that begin so."""
    found: dict[str, dict[str, Any]] = {}
    for row in of_ring(rows, ring, device):
        # Of precision the cases themselves, not what pools them.
        pooled = ring == "B" and row["case"] == "all"
        if row["subject"].startswith(subject) and not pooled:
            best = found.setdefault(row["quantity"], row)
            found[row["quantity"]] = max(best, row, key=nearness)
    return found


def decisions(rows: list[dict[str, Any]], device: str) -> dict[str, list[int]]:
    """Decision -> how often taken, ties and what follows from them, different."""
    kinds: dict[str, list[int]] = {}
    for row in of_ring(rows, "D", device):
        counts = kinds.setdefault(row["quantity"], [0, 0, 0])
        counts[0] += 1
        counts[1] += row["note"] in TIES
        counts[2] += not row["ok"]
    return kinds


def remarkable(rows: list[dict[str, Any]], device: str) -> list[dict[str, Any]]:
    """Rows that are not ok, or that have a note which is no tie's."""
    of_device = [row for row in rows if row["device"] == device]
    return [
        row
        for row in of_device
        if not row["ok"] or (row["note"] and row["note"] not in TIES)
    ]


def device_lines(rows: list[dict[str, Any]], device: str, verdict: str) -> list[str]:
    """A line of a device's verdict, and one of each ring, for a terminal."""
    lines = [f"{device}: {verdict}"]
    for ring, meaning in RINGS.items():
        found = of_ring(rows, ring, device)
        if not found:
            continue
        if ring == "C":
            values = [row["value"] for row in found]
            low, high = FAIRNESS
            bounds = f"bounds {low:g} and {high:g}"
            said = f"{min(values):.2f} to {max(values):.2f}, {bounds}"
        elif ring == "D":
            counts = decisions(rows, device).values()
            taken, tied, different = map(sum, zip(*counts, strict=True))
            said = f"{different} of {taken:,}, and {tied} ties"
        else:
            said = f"worst {described(max(found, key=nearness))}"
        lines.append(f"  {ring}, {meaning}: {said}")
    return lines


def summary(certificate: Any) -> str:
    """A few lines for a terminal."""
    lines = [
        f"{certificate.name}: {certificate.verdict.upper()} in "
        f"{certificate.seconds:.0f} s"
    ]
    if certificate.first_divergence:
        lines.append(f"first divergence: {certificate.first_divergence}")
    if certificate.reason:
        lines.append(certificate.reason)
    for device, verdict in certificate.devices.items():
        lines += device_lines(certificate.rows, device, verdict)
    if certificate.faults:
        lines.append(faults(certificate.faults))
    lines += [f"remark: {remark}" for remark in certificate.remarks]
    return "\n".join(lines)


def described(row: dict[str, Any]) -> str:
    """A row in words."""
    bound = f", bound {row['bound']:.2g}" if row["bound"] else ""
    note = f"; {row['note']}" if row["note"] else ""
    return (
        f"{row['value']:.3g} ({row['quantity']}, {row['case']}, {row['subject']}{bound}"
        f"{note})"
    )


def faults(found: dict[str, Any]) -> str:
    """The share of the planted faults that the proof saw."""
    text = f"planted faults: {found['seen']} of {found['planted']} seen"
    if found["unseen"]:
        text += "; not seen: " + "; ".join(found["unseen"])
    return text


def document(fields: dict[str, Any]) -> str:
    """A certificate's fields as JSON, each of its thousands of rows a list on one line.

    `rows.columns` names a row's entries. Values have four digits, enough to compare
    them with their bounds.
    """
    fields = plain(fields)
    rows = fields.pop("rows")
    fields["rows"] = {"columns": COLUMNS, "values": None}
    lines = [
        json.dumps([_short(row[name]) for name in COLUMNS], separators=(",", ":"))
        for row in rows
    ]
    head, placeholder, tail = json.dumps(fields, indent=1).rpartition("null")
    assert placeholder, "rows come last"
    return head + "[\n" + ",\n".join(lines) + "\n]" + tail + "\n"


def read(text: str) -> dict[str, Any]:
    """The fields of a certificate, as `document` wrote them."""
    fields = json.loads(text)
    columns, values = fields["rows"]["columns"], fields["rows"]["values"]
    rows = [dict(zip(columns, row, strict=True)) for row in values]
    for row in rows:
        row["value"], row["bound"] = float(row["value"]), float(row["bound"])
    return {**fields, "rows": rows}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def plain(value: Any) -> Any:
    """The value with NaN and infinity as strings, since JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What the result depends on, name and value."""
    shown = []
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        shown.append((name.replace("_", " "), str(value)))
    return shown


def markdown(certificate: Any) -> str:
    """The certificate as Markdown."""
    lines = [f"# Parity of {cell(certificate.name)}: {certificate.verdict}", ""]
    lines += ["```", summary(certificate).replace("`", "'"), "```", ""]
    lines += fact_table(certificate.facts)
    lines += device_sections(certificate)
    if certificate.weights:
        lines += ["", "The map of weights that was found:", "", "```python"]
        lines += [certificate.weights, "```"]
    return "\n".join(lines) + "\n"


def fact_table(found: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table of what the result depends on."""
    shown = facts(found)
    return ["| | |", "|---|---|", *(f"| {cell(n)} | {cell(v)} |" for n, v in shown)]


def device_sections(certificate: Any) -> list[str]:
    """Lines of a Markdown section for each device, with what was compared there."""
    lines = []
    for device, verdict in certificate.devices.items():
        lines += ["", f"## {device}: {verdict}"]
        if verdict != "not run":
            lines += ["", *_device_table(certificate.rows, device)]
    return lines


def _device_table(rows: list[dict[str, Any]], device: str) -> list[str]:
    identity = by_quantity(rows, "A", device)
    others = [by_quantity(rows, "B", device, name) for name in LABELS]
    others.append(by_quantity(rows, "C", device))
    lines = [
        "Worst over all cases. A: float64 error. B: float32 error over its predicted "
        "spread. C: JAX's float32 error over torch's. –: exact, or not compared.", "",
        "| quantity | A | bound | B, torch | B, JAX | C |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for quantity in dict.fromkeys(itertools.chain(identity, *others)):
        row = identity.get(quantity)
        shown = ["–", ""]
        if row is not None:
            shown = [f"{row['value']:.1e}", f"{row['bound']:.0e}"]
        found = (other.get(quantity) for other in others)
        shown += ["–" if row is None else f"{row['value']:.2f}" for row in found]
        lines.append(f"| {cell(quantity)} | {' | '.join(shown)} |")
    if counted := decisions(rows, device):
        lines += ["", "| decision | taken | ties | different |", "|---|---|---|---|"]
        for name, counts in counted.items():
            lines.append(f"| {cell(name)} | {' | '.join(map(str, counts))} |")
    if notable := remarkable(rows, device):
        lines.append("")
    for row in notable:
        state = "" if row["ok"] else "**differs**: "
        lines.append(f"- {state}ring {row['ring']}: {cell(described(row))}")
    return lines


def cell(value: Any) -> str:
    """A value in a table's cell."""
    return " ".join(str(value).replace("|", "\\|").split())
