"""The certificate as text: terminal summary, Markdown for a repository, JSON."""

import json
from typing import Any

from parity_kit.certificate.text import plain, worst


def by_quantity(
    rows: list[dict[str, Any]], ring: str, device: str, subject: str | None = None
) -> dict[str, dict[str, Any]]:
    """Quantity -> its worst row in a ring, pooled rows left out for ring B."""
    worst_rows: dict[str, dict[str, Any]] = {}
    for row in rows:
        if (row["ring"], row["device"]) != (ring, device):
            continue
        if subject not in (None, row["subject"]):
            continue
        if ring == "B" and row["case"] == "all":
            continue
        best = worst_rows.get(row["quantity"])
        if best is None or row["value"] > best["value"]:
            worst_rows[row["quantity"]] = row
    return worst_rows


def summary(certificate: Any) -> str:
    """A few lines for the terminal."""
    lines = [
        f"{'PASSED' if certificate.passed else 'FAILED'} in {certificate.seconds:.0f} s"
    ]
    for device, verdict in certificate.devices.items():
        lines.append(f"{device}: {verdict}")
        if verdict == "not run":
            continue
        a, b = (worst(certificate.rows, ring, device) for ring in "AB")
        c = [
            r["value"]
            for r in certificate.rows
            if r["ring"] == "C" and r["device"] == device
        ]
        ties, total = certificate.ties[device]
        lines += [
            f"  A, float64 identity: worst error {a['value']:.1e} ({a['quantity']}, "
            f"{a['case']}), bound {a['bound']:.0e}",
            f"  B, float32 error over predicted spread: worst {b['value']:.2f} "
            f"({b['quantity']}, {b['case']}, {b['subject']}), bound {b['bound']:g}",
            f"  C, JAX's float32 error over torch's: {min(c):.2f} to {max(c):.2f}, "
            "bounds 0.25 and 4",
            f"  D, decisions: {ties} ties in {total}, none different otherwise"
            if verdict == "passed"
            else f"  D, decisions: {ties} ties in {total}",
        ]
    good = sum(check["ok"] for check in certificate.checks)
    lines.append(f"truth and failures: {good} of {len(certificate.checks)} checks hold")
    for env_id, run in certificate.shadow.items():
        lines.append(f"lock step on {env_id}: {lock_step_summary(run)}")
    lines.append(f"planted faults: {recorded_faults(certificate)}")
    return "\n".join(lines)


def lock_step_summary(run: dict[str, Any]) -> str:
    """The worst of one environment's lock-step training."""
    a, b = run["worst"]["A"], run["worst"]["B"]
    ties, total = run["ties"]
    return (
        f"{len(run['updates'])} updates; A {a['value']:.1e} ({a['quantity']}), "
        f"B {b['value']:.2f} of {b['bound']:g} ({b['quantity']}, {b['subject']}), "
        f"{ties} ties in {total} decisions"
    )


def code(facts: dict[str, Any]) -> str:
    """The certified commit, and whether it has changes."""
    commit, dirty, _ = facts["commit"].partition("-dirty")
    return f"commit {commit}{' with changes that are not committed' if dirty else ''}"


def recorded_faults(certificate: Any) -> str:
    """A sentence on the planted faults: none in this run; those of the recorded one."""
    recorded = certificate.recorded_faults
    commits, processors = (", ".join(recorded[n]) for n in ("commits", "processors"))
    return (
        f"none in this run; recorded at commit {commits} on {processors}: "
        f"{recorded['caught']} of {recorded['planted']} caught "
        "(here: python -m parity_tests.mutation)"
    )


def markdown(certificate: Any) -> str:
    """The certificate as Markdown."""
    facts = certificate.facts
    lines = [
        "# Parity certificate",
        "",
        f"**{'PASSED' if certificate.passed else 'FAILED'}**, {certificate.mode}, "
        f"{certificate.seconds:.0f} s, {code(facts)}.",
        "",
        "```",
        summary(certificate),
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| processor | {facts['processor']} |",
        f"| GPUs | {', '.join(facts['cuda_devices']) or 'none'} |",
        f"| packages | {', '.join(f'{n} {v}' for n, v in facts['packages'].items())} |",
        f"| matmul precision | torch {facts['torch_matmul_precision']}, "
        f"JAX {facts['jax_matmul_precision']} |",
        f"| torch threads | {facts['torch_threads']} |",
        f"| closed loop | {certificate.closed_loop} |",
    ]
    for device, verdict in certificate.devices.items():
        lines += ["", f"## {device}: {verdict}", ""]
        if verdict != "not run":
            lines += _device_table(certificate.rows, device)
            lines += _failures(certificate.rows, device)
    bad = [check for check in certificate.checks if not check["ok"]]
    lines += ["", "## Truth and failures", ""]
    lines += [f"- **{check['name']}**: {check['message']}" for check in bad]
    lines += [
        f"{len(certificate.checks) - len(bad)} of {len(certificate.checks)} hold."
    ]
    return "\n".join(lines) + "\n"


def _device_table(rows: list[dict[str, Any]], device: str) -> list[str]:
    identity = by_quantity(rows, "A", device)
    ratios = {n: by_quantity(rows, "B", device, n) for n in ("torch", "jax")}
    fairness = by_quantity(rows, "C", device)
    lines = [
        "Worst over all cases. A: float64 error. B: float32 error over its predicted "
        "spread. C: JAX's float32 error over torch's.",
        "",
        "| quantity | A | bound | B, torch | B, JAX | C |",
        "|---|---|---|---|---|---|",
    ]
    for quantity, row in identity.items():
        b = [_cell(ratios[n].get(quantity), ".2f") for n in ("torch", "jax")]
        c = _cell(fairness.get(quantity), ".2f")
        lines.append(
            f"| {quantity} | {row['value']:.1e} | {row['bound']:.0e} | {b[0]} | {b[1]} "
            f"| {c} |"
        )
    return lines


def _cell(row: dict[str, Any] | None, form: str) -> str:
    return "exact" if row is None else format(row["value"], form)


def _failures(rows: list[dict[str, Any]], device: str) -> list[str]:
    bad = [row for row in rows if not row["ok"] and row["device"] == device]
    return [
        f"- ring {r['ring']}, {r['case']}, {r['quantity']}, {r['subject']}: "
        f"{r['value']:.2e} against {r['bound']:.2e} {r['note']}"
        for r in bad
    ]


COLUMNS = (
    "device", "ring", "case", "quantity", "subject", "value", "bound", "ok", "note",
)  # fmt: skip


def document(certificate: Any) -> str:
    """The whole certificate as JSON, each of its thousands of rows a list on one line.

    `rows.columns` names a row's entries. Values have four digits, enough to compare
    them with their bounds.
    """
    fields = plain(certificate._asdict())
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
    """The fields of a `Certificate`, as `document` wrote them."""
    fields = json.loads(text)
    columns, values = fields["rows"]["columns"], fields["rows"]["values"]
    rows = [dict(zip(columns, row, strict=True)) for row in values]
    for row in rows:
        row["value"], row["bound"] = float(row["value"]), float(row["bound"])
    return {**fields, "rows": rows}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
