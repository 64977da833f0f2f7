"""The certificate as JSON, for programs."""

import json
import math
from typing import Any


COLUMNS = (
    "device", "ring", "case", "quantity", "subject", "value", "bound", "ok", "note",
)  # fmt: skip


def document(certificate: Any) -> str:
    """The whole certificate; of its thousands of rows, each is a list on one line.

    Names of a row's entries stand once, in `rows.columns`. Values have four digits:
    what they are compared to is a bound, not another value.
    """
    fields = _plain(certificate._asdict())
    rows = fields.pop("rows")
    fields["rows"] = {"columns": COLUMNS, "values": None}
    lines = [
        json.dumps([_short(row[name]) for name in COLUMNS], separators=(",", ":"))
        for row in rows
    ]
    head, found, tail = json.dumps(fields, indent=1).rpartition("null")
    assert found, "rows come last"
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


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
