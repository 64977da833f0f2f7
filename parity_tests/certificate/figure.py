"""The certificate as one figure, legible at the width of a README."""

import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity_kit.tolerances import IDENTITY, UNSTABLE, VACUOUS
from parity_tests.certificate import text as certificate_text
from trpo.runs.learning_curves import COLOURS, line_style


# Label -> quantities; the worst of them is shown.
GROUPS = {
    "forward": ("mean", "log_std", "value"),
    "log-prob, entropy": ("log_prob", "entropy"),
    "KL": ("kl",),
    "ratio": ("ratio", "log_ratio"),
    "surrogate": ("surrogate", "improvement"),
    "gradient": ("gradient",),
    "Fisher, J'MJ": ("fisher/gauss_newton", "fisher/automatic"),
    "Fisher, Hessian": ("fisher/kl_hessian",),
    "CG solution": ("cg/solution", "update/cg_solution"),
    "step": ("update/full_step",),
    "line search": (
        "line_search/theta",
        "line_search/improvement",
        "line_search/kl",
    ),
    "new policy": ("update/policy",),
    "critic gradient": ("critic/gradient", "critic/clipped_gradient"),
    "optimiser": (
        "update/optimizer/first_moment",
        "update/optimizer/second_moment",
        "update/optimizer/momentum",
    ),
    "new critic": ("update/critic",),
    "GAE, normalisation": (
        "gae/advantages",
        "gae/returns",
        "gae/normalized",
        "normalized/obs",
        "normalized/mean",
    ),
}
TORCH, JAX, IDENTICAL = COLOURS["torch"], COLOURS["jax"], "tab:purple"


def draw(certificate: Any, path: pathlib.Path) -> None:
    """Write the figure: identity, precision, and lock-step training."""
    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    device = next((d for d, v in certificate.devices.items() if v != "not run"), None)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.7, 1.0))
    if device is not None:
        _identity(figure.add_subplot(grid[0, 0]), certificate, device)
        _precision(figure.add_subplot(grid[0, 1]), certificate, device)
    _training(figure.add_subplot(grid[1, :]), certificate)
    figure.savefig(path, dpi=150)


def _worst(rows: dict[str, dict], quantities: tuple[str, ...]) -> float | None:
    values = [rows[name]["value"] for name in quantities if name in rows]
    return max(values, default=None)


def _labels(axes: Axes) -> None:
    axes.set_yticks(range(len(GROUPS)), list(GROUPS))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)


def _identity(axes: Axes, certificate: Any, device: str) -> None:
    rows = certificate_text.by_quantity(certificate.rows, "A", device)
    for i, quantities in enumerate(GROUPS.values()):
        value = _worst(rows, quantities)
        if value is not None:
            axes.barh(i, max(value, 1e-17), left=1e-18, color=IDENTICAL, height=0.6)
    axes.set_xscale("log")
    axes.set_xlim(1e-17, 1e-8)
    axes.axvline(IDENTITY, color="black", linestyle="--", linewidth=1)
    axes.annotate("bound", (IDENTITY, -0.6), fontsize=8, ha="right", xytext=(-3, 0),
                  textcoords="offset points", annotation_clip=False)  # fmt: skip
    axes.set_title("float64: PyTorch, JAX and NumPy are identical", fontsize=10)
    axes.set_xlabel("largest relative error")
    _labels(axes)


def _precision(axes: Axes, certificate: Any, device: str) -> None:
    for name, label, color, shift in (
        ("torch", "PyTorch", TORCH, -0.15),
        ("jax", "JAX", JAX, 0.15),
    ):
        rows = certificate_text.by_quantity(certificate.rows, "B", device, name)
        points = [
            (value, i + shift)
            for i, quantities in enumerate(GROUPS.values())
            if (value := _worst(rows, quantities)) is not None
        ]
        axes.plot(*zip(*points, strict=True), "o", color=color, label=label, ms=5)
    axes.set_xscale("log")
    axes.set_xlim(VACUOUS / 2, UNSTABLE * 3)
    axes.axvspan(VACUOUS, UNSTABLE, color="black", alpha=0.05)
    for bound in (VACUOUS, UNSTABLE):
        axes.axvline(bound, color="black", linestyle="--", linewidth=1)
    axes.set_title("float32: error as rounding predicts, in both", fontsize=10)
    axes.set_xlabel("error / predicted spread, worst case")
    axes.legend(loc="lower left", fontsize=8)
    _labels(axes)
    axes.set_yticklabels([])


def _training(axes: Axes, certificate: Any) -> None:
    for style, (env_id, run) in zip(
        ("-", ":"), certificate.shadow.items(), strict=False
    ):
        history = run["updates"]
        updates = range(1, len(history) + 1)
        kinds = (
            ("step_torch_32", "PyTorch float32", TORCH),
            ("step_jax_32", "JAX float32", JAX),
            ("step_64", "JAX float64", IDENTICAL),
        )
        for place, (field, label, color) in enumerate(kinds):
            values = [max(update[field], 1e-18) for update in history]
            marks: dict[str, Any] = line_style(place, len(kinds), len(history)) | {
                "ls": style
            }
            label = f"{label}, {env_id}"
            axes.plot(updates, values, color=color, label=label, **marks)
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-2)
    axes.set_xlabel("update, every agent started from the same state")
    axes.set_ylabel("error of the policy's step")
    axes.set_title("lock-step training, against PyTorch float64", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="center right")
