"""The certificate as one page: no script, no font, no picture from elsewhere."""

import html as escape_module
import math
from typing import Any

from parity_kit.certificate import text as certificate_text
from parity_kit.tolerances import UNSTABLE, VACUOUS


STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667080; --line: #d8dde4;
  --bar: #3b6ea8; --jax: #c06a1f; --bad: #b3261e; --good: #2e7d43; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2;
  --line: #333c48; --bar: #7fb0e6; --jax: #e5a15f; --bad: #f2877f; --good: #7ccf93;
  --paper: #14181d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, caption { color: var(--soft); }
caption { text-align: left; padding: .3rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: .15rem .5rem .15rem 0; vertical-align: middle;
  border-bottom: 1px solid var(--line); } th { font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.passed { color: var(--good); } .failed { color: var(--bad); } svg { display: block; }
.scroll { overflow-x: auto; } pre { white-space: pre-wrap; }
.facts td.number { white-space: normal; }
"""

# Low and high end of a ring's axis, and the marks on it beside a row's bound.
AXES = {"A": (1e-18, 1e-4, ()), "B": (1e-2, 1e2, (VACUOUS, UNSTABLE)),
        "C": (1e-2, 1e2, ()), "D": (0.1, 1e2, ())}  # fmt: skip


def start(title: str, verdict: str) -> str:
    """The page up to its heading's end."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        # An empty icon, or a browser asks for one.
        "<link rel='icon' href='data:,'>\n"
        f"<title>{text(title)}: {verdict}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{text(title)}: <span class='{verdict}'>{verdict}</span></h1>"
    )


def html(certificate: Any) -> str:
    """The whole page of a pair's certificate."""
    parts = [
        start(f"Parity of {certificate.name}", certificate.verdict),
        f"<pre>{text(certificate_text.summary(certificate))}</pre>",
    ]
    for device, verdict in certificate.devices.items():
        parts.append(f"<h2>{text(device)}: {text(verdict)}</h2>")
        parts += [_ring(certificate, ring, device) for ring in certificate_text.RINGS]
    facts = [[text(n), text(v)] for n, v in certificate_text.facts(certificate)]
    parts.append(f"<div class='facts'>{table('Facts', ['', ''], facts)}</div>")
    return "\n".join(parts) + "</body></html>\n"


def _ring(certificate: Any, ring: str, device: str) -> str:
    low, high, marks = AXES[ring]
    rows = []
    for row in certificate_text.worst_of_each(certificate.rows, ring, device):
        ink = "bar" if row["ok"] else "bad"
        bounds = [row["bound"], *marks] if row["bound"] else [*marks]
        cells = [text(row["quantity"]), text(row["subject"]), f"{row['value']:.2g}"]
        cells += [f"{row['bound']:.2g}", bar(row["value"], low, high, bounds, ink)]
        rows.append([*cells, text(row["note"])])
    if not rows:
        return ""
    caption = f"Ring {ring}: {certificate_text.RINGS[ring]}. Worst of all seeds."
    return table(caption, ["quantity", "", "worst", "bound", "", ""], rows)


def text(value: Any) -> str:
    """Any value as text that no browser takes for markup."""
    return escape_module.escape(str(value))


def table(caption: str, head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are markup already."""
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td class='number'>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll'><table><caption>{caption}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(
    value: float,
    low: float,
    high: float,
    marks: list[float],
    ink: str,
    width: int = 260,
) -> str:
    """A bar on a logarithmic axis from `low` to `high`, with vertical marks."""

    def place(number: float) -> float:
        number = min(max(number, low), high) if number > 0 else low
        return width * math.log(number / low) / math.log(high / low)

    lines = "".join(
        f"<line x1='{place(m):.1f}' x2='{place(m):.1f}' y1='0' y2='12' "
        "stroke='currentColor' stroke-dasharray='2 2'/>"
        for m in marks
    )
    return (
        f"<svg width='{width}' height='12' role='img' aria-label='{value:.1e}'>"
        f"<rect width='{place(value):.1f}' height='8' y='2' fill='var(--{ink})'/>"
        f"{lines}</svg>"
    )
