"""The certificate as one page: no script, no font, no picture from elsewhere."""

import math
from typing import Any

from parity_kit.certificate.page import bar, start, table, text
from parity_kit.tolerances import UNSTABLE, VACUOUS
from parity_tests.certificate import text as certificate_text


def html(certificate: Any) -> str:
    """The whole page."""
    verdict = "passed" if certificate.passed else "failed"
    parts = [
        start("Parity certificate", verdict),
        f"<p>PyTorch and JAX, the same TRPO agent. {text(certificate.mode)} run of "
        f"{certificate.seconds:.0f} s at "
        f"{text(certificate_text.code(certificate.facts))}.</p>",
        f"<pre>{text(certificate_text.summary(certificate))}</pre>",
        _facts(certificate),
    ]
    for device, state in certificate.devices.items():
        parts.append(f"<h2>{device}: {text(state)}</h2>")
        if state != "not run":
            parts += [_identity(certificate, device), _precision(certificate, device)]
            parts += [_decisions(certificate, device)]
    parts += [_shadow(certificate), _checks(certificate)]
    return "\n".join(parts) + "</body></html>\n"


def _facts(certificate: Any) -> str:
    facts = certificate.facts
    packages = ", ".join(f"{n} {v}" for n, v in facts["packages"].items())
    rows = [
        ["processor", text(facts["processor"])],
        ["GPUs", text(", ".join(facts["cuda_devices"]) or "none")],
        ["packages", text(packages)],
        ["matmul precision", text(
            f"torch {facts['torch_matmul_precision']}, "
            f"JAX {facts['jax_matmul_precision']}"
        )],
        ["torch threads", text(facts["torch_threads"])],
        ["closed loop", text(certificate.closed_loop)],
    ]  # fmt: skip
    shown = table("What the result depends on", ["", ""], rows)
    return f"<div class='facts'>{shown}</div>"


def _identity(certificate: Any, device: str) -> str:
    worst_rows = certificate_text.by_quantity(certificate.rows, "A", device)
    rows = []
    for quantity, row in worst_rows.items():
        ink = "bar" if row["ok"] else "bad"
        drawn = bar(row["value"], 1e-18, 1e-8, [row["bound"]], ink)
        numbers = [f"{row['value']:.1e}", f"{row['bound']:.0e}"]
        rows.append([text(quantity), *numbers, drawn, text(row["case"])])
    return table(
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
        cells = [text(quantity)]
        for name, ink in (("torch", "bar"), ("jax", "jax")):
            row = ratios[name].get(quantity)
            value = math.nan if row is None else row["value"]
            bad = row is not None and not row["ok"]
            drawn = bar(value, 1e-2, 1e2, [VACUOUS, UNSTABLE], "bad" if bad else ink)
            cells += [f"{value:.2f}", drawn]
        row = fairness.get(quantity)
        cells.append("" if row is None else f"{row['value']:.2f}")
        rows.append(cells)
    return table(
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
    rows = [[text(name), *map(str, counts)] for name, counts in kinds.items()]
    return table(
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
                bar(error, 1e-18, 1e-2, [], ink, width=110)
                for error, ink in zip(errors, ("good", "bar", "jax"), strict=True)
            ]
            cells = [
                f"{error:.0e}{bar}" for error, bar in zip(errors, bars, strict=True)
            ]
            ratios = [update["ratio_torch_32"], update["ratio_jax_32"]]
            cells += [
                f"{ratio:.2f}{bar(ratio, 1e-2, 1e2, [UNSTABLE], ink, width=110)}"
                for ratio, ink in zip(ratios, ("bar", "jax"), strict=True)
            ]
            same = "equal" if update["decisions_32"] else "tie"
            rows.append([str(i + 1), *cells, same, f"{update['kl']:.4f}"])
        parts.append(
            table(
                f"{text(env_id)}: {text(certificate_text.lock_step_summary(run))}. "
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
        rows.append([text(check["name"]), mark, text(check["message"])])
    head = "<h2>Truth and failures</h2>"
    return head + table(
        "Independent oracles, recordings of the original agent, transformed problems, "
        "and equal answers to bad input.",
        ["check", "", ""],
        rows,
    )
