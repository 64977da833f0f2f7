"""The certificate as text: terminal summary, JSON."""

import json
import math
from typing import Any


RINGS = {
    "A": "identity, float64 error",
    "B": "precision, float32 error over its predicted spread",
    "C": "fairness, JAX's float32 error over torch's",
    "D": "decisions that differ",
}


def worst(rows: list[dict[str, Any]], ring: str, device: str) -> dict[str, Any] | None:
    """The row of a ring nearest to its bound, or beyond it; None if there is none."""
    of_ring = [r for r in rows if r["ring"] == ring and r["device"] == device]

    def nearness(row: dict[str, Any]) -> tuple[bool, float]:
        # A ratio far below its bound is not ok either, and not the worst.
        bad = not row["ok"] and not row["value"] <= row["bound"]
        return bad, row["value"] / row["bound"] if row["bound"] else 0.0

    return max(of_ring, key=nearness, default=None)


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
        lines.append(f"{device}: {verdict}")
        for ring, meaning in RINGS.items():
            row = worst(certificate.rows, ring, device)
            if row is not None:
                lines.append(f"  {meaning}: worst {described(row)}")
    if certificate.faults:
        lines.append(faults(certificate.faults))
    lines += [f"remark: {remark}" for remark in certificate.remarks]
    return "\n".join(lines)


def described(row: dict[str, Any]) -> str:
    """A row in words."""
    bound = f", bound {row['bound']:.2g}" if row["bound"] else ""
    note = f"; {row['note']}" if row["note"] else ""
    return (
        f"{row['value']:.2g} ({row['quantity']}, {row['case']}, {row['subject']}{bound}"
        f"{note})"
    )


def faults(found: dict[str, Any]) -> str:
    """The share of the planted faults that the proof saw."""
    text = f"planted faults: {found['seen']} of {found['planted']} seen"
    if found["unseen"]:
        text += "; not seen: " + "; ".join(found["unseen"])
    return text


def document(certificate: Any) -> str:
    """The certificate as JSON; NaN and infinity as text, since JSON has neither."""
    fields = {
        name: plain(value)
        for name, value in vars(certificate).items()
        if name != "reproduction"
    }
    return json.dumps(fields, indent=1) + "\n"


def plain(value: Any) -> Any:
    """The value with NaN and infinity as strings, since JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def worst_of_each(
    rows: list[dict[str, Any]], ring: str, device: str
) -> list[dict[str, Any]]:
    """Each quantity's and subject's worst row in a ring, in the rows' order."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if (row["ring"], row["device"]) != (ring, device):
            continue
        best = found.setdefault((row["quantity"], row["subject"]), row)
        if (not row["ok"], row["value"]) > (not best["ok"], best["value"]):
            found[row["quantity"], row["subject"]] = row
    return list(found.values())


def facts(certificate: Any) -> list[tuple[str, str]]:
    """What the result depends on, name and value."""
    found = []
    for name, value in certificate.facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        found.append((name, str(value)))
    return found


def markdown(certificate: Any) -> str:
    """The certificate as Markdown."""
    lines = [f"# Parity of {cell(certificate.name)}: {certificate.verdict}", ""]
    lines += ["```", summary(certificate).replace("`", "'"), "```", ""]
    for device, verdict in certificate.devices.items():
        lines += [f"## {device}: {verdict}", ""]
        for ring, meaning in RINGS.items():
            rows = worst_of_each(certificate.rows, ring, device)
            if rows:
                lines += [f"{ring}: {meaning}. Worst of all seeds.", ""]
                lines += ["| quantity | | worst | bound | ok | |"]
                lines += ["|---|---|---|---|---|---|", *map(_line, rows), ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {cell(name)} | {cell(value)} |" for name, value in facts(certificate)]
    if certificate.weights:
        lines += ["", "The map of weights that was found:", "", "```python"]
        lines += [certificate.weights, "```"]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    return (
        f"| {cell(row['quantity'])} | {row['subject']} | {row['value']:.2g} | "
        f"{row['bound']:.2g} | {'yes' if row['ok'] else 'no'} | {cell(row['note'])} |"
    )


def cell(value: Any) -> str:
    """A value in a table's cell."""
    return " ".join(str(value).replace("|", "\\|").split())
