"""The certificate as one figure: each stage's worst error beside its bound."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity_kit.tolerances import IDENTITY, UNSTABLE, VACUOUS


TORCH, JAX, GOOD, BAD = "#3b6ea8", "#c06a1f", "#2e7d43", "#b3261e"


def draw(certificate: Any, path: Path) -> None:
    """Write the figure: float64 errors by stage, float32 ratios by stage."""
    ranks = {
        certificate.stage(row["quantity"]): certificate.rank(row["quantity"])
        for row in certificate.rows
    }
    stages = sorted(ranks, key=lambda stage: ranks[stage])
    height = 1.6 + 0.32 * max(len(stages), 3)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _identity(left, certificate, stages)
    _precision(right, certificate, stages)
    left.set_yticks(range(len(stages)), stages)
    left.invert_yaxis()
    figure.suptitle(f"{certificate.name}: {certificate.verdict}", fontsize=11)
    figure.savefig(path, dpi=150)


def _worst(
    certificate: Any, stage: str, ring: str, framework: str = ""
) -> dict[str, Any] | None:
    rows = [
        row
        for row in certificate.rows
        if row["ring"] == ring
        and certificate.stage(row["quantity"]) == stage
        and row["subject"].startswith(framework)
    ]
    return max(rows, key=lambda row: row["value"], default=None)


def _identity(axes: Axes, certificate: Any, stages: list[str]) -> None:
    for i, stage in enumerate(stages):
        row = _worst(certificate, stage, "A")
        if row is not None:
            value = min(max(row["value"], 2e-18), 1.0)
            color = GOOD if row["ok"] else BAD
            axes.barh(i, value, left=1e-18, color=color, height=0.6)
    axes.axvline(IDENTITY, color="black", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlim=(1e-18, 1.0), xlabel="largest relative error")
    axes.set_title("float64: the two sides against each other", fontsize=10)
    _plain(axes)


def _precision(axes: Axes, certificate: Any, stages: list[str]) -> None:
    for name, color, shift in (("torch", TORCH, -0.15), ("jax", JAX, 0.15)):
        rows = [
            (row["value"], i + shift)
            for i, stage in enumerate(stages)
            if (row := _worst(certificate, stage, "B", name)) is not None
        ]
        points = [(v if math.isfinite(v) else UNSTABLE * 3, i) for v, i in rows]
        label = {"torch": "PyTorch", "jax": "JAX"}[name]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=color, label=label, ms=5)
            axes.legend(fontsize=8)
    axes.axvspan(VACUOUS, UNSTABLE, color="black", alpha=0.05)
    axes.set(xscale="log", xlim=(VACUOUS / 4, UNSTABLE * 4))
    axes.set_xlabel("error / predicted spread, worst case")
    axes.set_title("float32: each side against its own float64", fontsize=10)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
