"""The certificate as one page: no script, no font, no picture from elsewhere."""

import html as escape_module
import math
from typing import Any

from parity_tests.certificate import text as certificate_text
from parity_tests.common.tolerances import UNSTABLE, VACUOUS


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


def html(certificate: Any) -> str:
    """The whole page."""
    verdict = "passed" if certificate.passed else "failed"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        # An empty icon, or a browser asks for one.
        "<link rel='icon' href='data:,'>",
        f"<title>Parity certificate: {verdict}</title><style>{STYLE}</style></head>",
        f"<body><h1>Parity certificate: <span class='{verdict}'>{verdict}</span></h1>",
        f"<p>PyTorch and JAX, the same TRPO agent. {_text(certificate.mode)} run of "
        f"{certificate.seconds:.0f} s at "
        f"{_text(certificate_text.code(certificate.facts))}.</p>",
        f"<pre>{_text(certificate_text.summary(certificate))}</pre>",
        _facts(certificate),
    ]
    for device, state in certificate.devices.items():
        parts.append(f"<h2>{device}: {_text(state)}</h2>")
        if state != "not run":
            parts += [_identity(certificate, device), _precision(certificate, device)]
            parts += [_decisions(certificate, device)]
    parts += [_shadow(certificate), _checks(certificate)]
    return "\n".join(parts) + "</body></html>\n"


def _text(value: Any) -> str:
    return escape_module.escape(str(value))


def _table(caption: str, head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td class='number'>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll'><table><caption>{caption}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _bar(
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


def _facts(certificate: Any) -> str:
    facts = certificate.facts
    packages = ", ".join(f"{n} {v}" for n, v in facts["packages"].items())
    rows = [
        ["processor", _text(facts["processor"])],
        ["GPUs", _text(", ".join(facts["cuda_devices"]) or "none")],
        ["packages", _text(packages)],
        ["matmul precision", _text(
            f"torch {facts['torch_matmul_precision']}, "
            f"JAX {facts['jax_matmul_precision']}"
        )],
        ["torch threads", _text(facts["torch_threads"])],
        ["closed loop", _text(certificate.closed_loop)],
    ]  # fmt: skip
    table = _table("What the result depends on", ["", ""], rows)
    return f"<div class='facts'>{table}</div>"


def _identity(certificate: Any, device: str) -> str:
    worst_rows = certificate_text.by_quantity(certificate.rows, "A", device)
    rows = []
    for quantity, row in worst_rows.items():
        ink = "bar" if row["ok"] else "bad"
        bar = _bar(row["value"], 1e-18, 1e-8, [row["bound"]], ink)
        numbers = [f"{row['value']:.1e}", f"{row['bound']:.0e}"]
        rows.append([_text(quantity), *numbers, bar, _text(row["case"])])
    return _table(
        "Ring A, float64: largest error between any two of PyTorch, JAX and a third "
        "implementation in NumPy. Axis 1e-18 to 1e-8; dashed: the bound.",
        ["quantity", "error", "bound", "", "case"],
        rows,
    )


def _precision(certificate: Any, device: str) -> str:
    ratios = {
        name: certificate_text.by_quantity(certificate.rows, "B", device, name)
        for name in ("torch", "jax")
    }
    fairness = certificate_text.by_quantity(certificate.rows, "C", device)
    rows = []
    for quantity in ratios["torch"]:
        cells = [_text(quantity)]
        for name, ink in (("torch", "bar"), ("jax", "jax")):
            row = ratios[name].get(quantity)
            value = math.nan if row is None else row["value"]
            bad = row is not None and not row["ok"]
            bar = _bar(value, 1e-2, 1e2, [VACUOUS, UNSTABLE], "bad" if bad else ink)
            cells += [f"{value:.2f}", bar]
        row = fairness.get(quantity)
        cells.append("" if row is None else f"{row['value']:.2f}")
        rows.append(cells)
    return _table(
        "Rings B and C, float32: error in units of the spread that rounding predicts, "
        "worst case; then JAX's error over PyTorch's, all cases. Axis 0.01 to 100; "
        "dashed: vacuous below 1/20, unstable above 8.",
        ["quantity", "PyTorch", "", "JAX", "", "JAX / PyTorch"],
        rows,
    )


def _decisions(certificate: Any, device: str) -> str:
    kinds: dict[str, list[int]] = {}
    for row in certificate.rows:
        if row["ring"] == "D" and row["device"] == device:
            counts = kinds.setdefault(row["quantity"], [0, 0, 0])
            counts[0] += 1
            counts[1] += row["note"] in ("tie", "follows")
            counts[2] += not row["ok"]
    rows = [[_text(name), *map(str, counts)] for name, counts in kinds.items()]
    return _table(
        "Ring D: discrete decisions of both backends in both precisions. A tie is one "
        "whose float64 margin is below its error bar.",
        ["decision", "taken", "ties and what follows from them", "different"],
        rows,
    )


def _shadow(certificate: Any) -> str:
    parts = ["<h2>Lock-step training</h2>"]
    for env_id, run in certificate.shadow.items():
        rows = []
        for i, update in enumerate(run["updates"]):
            errors = [update[n] for n in ("step_64", "step_torch_32", "step_jax_32")]
            bars = [
                _bar(error, 1e-18, 1e-2, [], ink, width=110)
                for error, ink in zip(errors, ("good", "bar", "jax"), strict=True)
            ]
            cells = [
                f"{error:.0e}{bar}" for error, bar in zip(errors, bars, strict=True)
            ]
            ratios = [update["ratio_torch_32"], update["ratio_jax_32"]]
            cells += [
                f"{ratio:.2f}{_bar(ratio, 1e-2, 1e2, [UNSTABLE], ink, width=110)}"
                for ratio, ink in zip(ratios, ("bar", "jax"), strict=True)
            ]
            same = "equal" if update["decisions_32"] else "tie"
            rows.append([str(i + 1), *cells, same, f"{update['kl']:.4f}"])
        parts.append(
            _table(
                f"{_text(env_id)}: {_text(certificate_text.lock_step_summary(run))}. "
                "Relative error of the policy's step at each update, every agent "
                "started from the same state, axis 1e-18 to 1e-2; and float32's error "
                "over its predicted spread (new policy or critic), axis 0.01 to 100.",
                ["update", "JAX float64", "PyTorch float32", "JAX float32",
                 "PyTorch, over spread", "JAX, over spread", "decisions", "KL"],
                rows,
            )
        )  # fmt: skip
    return "\n".join(parts)


def _checks(certificate: Any) -> str:
    rows = []
    for check in certificate.checks:
        state = "passed" if check["ok"] else "failed"
        mark = f"<span class='{state}'>{state}</span>"
        rows.append([_text(check["name"]), mark, _text(check["message"])])
    head = "<h2>Truth and failures</h2>"
    return head + _table(
        "Independent oracles, recordings of the original agent, transformed problems, "
        "and equal answers to bad input.",
        ["check", "", ""],
        rows,
    )
