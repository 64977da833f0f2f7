"""The certificate as one figure: each stage's worst error beside its bound."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity_kit.certificate.text import LABELS, nearness
from parity_kit.tolerances import IDENTITY, UNSTABLE, VACUOUS


TORCH, JAX, IDENTICAL, DIFFERENT = "tab:orange", "tab:blue", "tab:purple", "#b3261e"
# Up to here an axis of float64 errors goes, and further where one is larger.
SMALL = 1e-8
Groups = Mapping[str, Collection[str]]
"""Label -> the quantities of which it shows the worst."""


def draw(certificate: Any, path: Path) -> None:
    """Write the figure: float64 errors by stage, float32 ratios by stage."""
    quantities = {row["quantity"]: None for row in certificate.rows}
    groups: dict[str, list[str]] = {}
    for quantity in sorted(quantities, key=certificate.rank):
        groups.setdefault(certificate.stage(quantity), []).append(quantity)
    height = 1.6 + 0.32 * max(len(groups), 3)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    identity_panel(left, certificate.rows, groups)
    precision_panel(right, certificate.rows, groups)
    figure.suptitle(f"{certificate.name}: {certificate.verdict}", fontsize=11)
    figure.savefig(path, dpi=150)


def _worst(
    rows: list[dict[str, Any]], ring: str, groups: Groups, framework: str = ""
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Places of groups that have rows of a ring, and the worst of these."""
    for place, quantities in enumerate(groups.values()):
        found = [
            row
            for row in rows
            if row["ring"] == ring
            and row["quantity"] in quantities
            and row["subject"].startswith(framework)
            and (ring, row["case"]) != ("B", "all")
        ]
        if found:
            yield place, max(found, key=nearness)


def identity_panel(axes: Axes, rows: list[dict[str, Any]], groups: Groups) -> None:
    """Float64 errors, the worst of each group."""
    worst = list(_worst(rows, "A", groups))
    right = SMALL if all(row["value"] <= SMALL for _, row in worst) else 1.0
    for place, row in worst:
        value = min(max(row["value"], 1e-17), right)
        color = IDENTICAL if row["ok"] else DIFFERENT
        axes.barh(place, value, left=1e-18, color=color, height=0.6)
    axes.axvline(IDENTITY, color="black", linestyle="--", linewidth=1)
    axes.annotate("bound", (IDENTITY, -0.6), fontsize=8, ha="right", xytext=(-3, 0),
                  textcoords="offset points", annotation_clip=False)  # fmt: skip
    axes.set(xscale="log", xlim=(1e-17, right), xlabel="largest relative error")
    axes.set_title("float64: the sides against each other", fontsize=10)
    _label(axes, groups)


def precision_panel(axes: Axes, rows: list[dict[str, Any]], groups: Groups) -> None:
    """Float32 errors over predicted spreads, the worst of each group."""
    for name, color, shift in (("torch", TORCH, -0.15), ("jax", JAX, 0.15)):
        points = [
            (min(row["value"], UNSTABLE * 3), place + shift)
            for place, row in _worst(rows, "B", groups, name)
        ]
        if points:
            label = LABELS[name]
            axes.plot(*zip(*points, strict=True), "o", color=color, label=label, ms=5)
            axes.legend(loc="lower left", fontsize=8)
    axes.axvspan(VACUOUS, UNSTABLE, color="black", alpha=0.05)
    for bound in (VACUOUS, UNSTABLE):
        axes.axvline(bound, color="black", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlim=(VACUOUS / 2, UNSTABLE * 4))
    axes.set_xlabel("error / predicted spread, worst case")
    axes.set_title("float32: each side against its own float64", fontsize=10)
    _label(axes, groups)
    axes.set_yticklabels([])


def _label(axes: Axes, groups: Groups) -> None:
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -1.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
