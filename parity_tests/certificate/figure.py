"""The certificate as one figure, legible at the width of a README."""

import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity_kit.certificate.figure import (
    IDENTICAL,
    JAX,
    TORCH,
    identity_panel,
    precision_panel,
)
from trpo.runs.learning_curves import line_style


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


def draw(certificate: Any, path: pathlib.Path) -> None:
    """Write the figure: identity, precision, and lock-step training."""
    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    device = next((d for d, v in certificate.devices.items() if v != "not run"), None)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.7, 1.0))
    if device is not None:
        rows = [row for row in certificate.rows if row["device"] == device]
        identity_panel(figure.add_subplot(grid[0, 0]), rows, GROUPS)
        precision_panel(figure.add_subplot(grid[0, 1]), rows, GROUPS)
    _training(figure.add_subplot(grid[1, :]), certificate)
    figure.savefig(path, dpi=150)


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
