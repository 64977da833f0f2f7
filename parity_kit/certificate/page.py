"""The certificate as one page: no script, no font, no picture from elsewhere."""

import html as escape_module
import itertools
import math
from typing import Any

from parity_kit.certificate import text as certificate_text
from parity_kit.tolerances import UNSTABLE, VACUOUS


STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667080; --line: #d8dde4;
  --bar: #7b5ea7; --torch: #d9700b; --jax: #1f77b4; --bad: #b3261e; --good: #2e7d43;
  --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2;
  --line: #333c48; --bar: #b49ddb; --torch: #f0a25b; --jax: #7fb0e6; --bad: #f2877f;
  --good: #7ccf93; --paper: #14181d; } }
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
    parts += device_sections(certificate)
    parts.append(fact_table(certificate.facts))
    return "\n".join(parts) + "</body></html>\n"


def fact_table(found: dict[str, Any]) -> str:
    """What the result depends on."""
    rows = [[text(n), text(v)] for n, v in certificate_text.facts(found)]
    shown = table("What the result depends on", ["", ""], rows)
    return f"<div class='facts'>{shown}</div>"


def device_sections(certificate: Any) -> list[str]:
    """A heading for each device, with tables of what was compared there."""
    parts, rows = [], certificate.rows
    for device, verdict in certificate.devices.items():
        parts.append(f"<h2>{text(device)}: {text(verdict)}</h2>")
        tables = _identity, _precision, _decisions, _remarkable
        parts += [made(rows, device) for made in tables]
    return parts


def _identity(rows: list[dict[str, Any]], device: str) -> str:
    shown = []
    for quantity, row in certificate_text.by_quantity(rows, "A", device).items():
        ink = "bar" if row["ok"] else "bad"
        drawn = bar(row["value"], 1e-18, 1e-4, [row["bound"]], ink)
        numbers = [f"{row['value']:.1e}", f"{row['bound']:.0e}"]
        shown.append([text(quantity), *numbers, drawn, text(row["case"])])
    return table(
        "Ring A, float64: largest error between any two implementations. Axis 1e-18 to "
        "1e-4; dashed: the bound.",
        ["quantity", "error", "bound", "", "case"],
        shown,
    )


def _precision(rows: list[dict[str, Any]], device: str) -> str:
    names = certificate_text.LABELS
    ratios = {
        name: certificate_text.by_quantity(rows, "B", device, name) for name in names
    }
    fairness = certificate_text.by_quantity(rows, "C", device)
    shown = []
    for quantity in dict.fromkeys(itertools.chain(*ratios.values())):
        cells = [text(quantity)]
        for name in names:
            row = ratios[name].get(quantity)
            value = math.nan if row is None else row["value"]
            ink = name if row is None or row["ok"] else "bad"
            drawn = bar(value, 1e-2, 1e2, [VACUOUS, UNSTABLE], ink)
            cells += [f"{value:.2f}", drawn]
        row = fairness.get(quantity)
        cells.append("" if row is None else f"{row['value']:.2f}")
        shown.append(cells)
    return table(
        "Rings B and C, float32: error in units of the spread that rounding predicts, "
        "worst case; then JAX's error over PyTorch's, all cases. Axis 0.01 to 100; "
        "dashed: vacuous below 1/20, unstable above 8.",
        ["quantity", "PyTorch", "", "JAX", "", "JAX / PyTorch"],
        shown,
    )


def _decisions(rows: list[dict[str, Any]], device: str) -> str:
    counted = certificate_text.decisions(rows, device)
    return table(
        "Ring D: discrete decisions of both sides. A tie is one whose float64 margin "
        "is below its error bar.",
        ["decision", "taken", "ties and what follows from them", "different"],
        [[text(name), *map(str, counts)] for name, counts in counted.items()],
    )


def _remarkable(rows: list[dict[str, Any]], device: str) -> str:
    return table(
        "What differs, or has a remark.",
        ["", ""],
        [
            [
                "" if row["ok"] else "<span class='failed'>differs</span>",
                text(f"ring {row['ring']}: {certificate_text.described(row)}"),
            ]
            for row in certificate_text.remarkable(rows, device)
        ],
    )


def text(value: Any) -> str:
    """Any value as text that no browser takes for markup."""
    return escape_module.escape(str(value))


def table(caption: str, head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are markup already; nothing without rows."""
    if not rows:
        return ""
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
