"""The certificate as one page: no script, no font, no picture from elsewhere."""

from typing import Any

from parity_kit.certificate.page import (
    bar,
    device_sections,
    fact_table,
    start,
    table,
    text,
)
from parity_kit.tolerances import UNSTABLE
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
        fact_table(certificate_text.facts(certificate)),
        *device_sections(certificate),
        _shadow(certificate),
        _checks(certificate),
    ]
    return "\n".join(parts) + "</body></html>\n"


def _shadow(certificate: Any) -> str:
    parts = ["<h2>Lock-step training</h2>"]
    for env_id, run in certificate.shadow.items():
        rows = []
        for i, update in enumerate(run["updates"]):
            errors = [update[n] for n in ("step_64", "step_torch_32", "step_jax_32")]
            bars = [
                bar(error, 1e-18, 1e-2, [], ink, width=110)
                for error, ink in zip(errors, ("bar", "torch", "jax"), strict=True)
            ]
            cells = [
                f"{error:.0e}{bar}" for error, bar in zip(errors, bars, strict=True)
            ]
            ratios = [update["ratio_torch_32"], update["ratio_jax_32"]]
            cells += [
                f"{ratio:.2f}{bar(ratio, 1e-2, 1e2, [UNSTABLE], ink, width=110)}"
                for ratio, ink in zip(ratios, ("torch", "jax"), strict=True)
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
