"""Rings B, C and D in a shorter precision, of sides that are identical in float64."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from parity_kit import rings
from parity_kit.sides import Arrays, Problem, Run
from parity_kit.tolerances import MAX_TIE_SHARE, UNIT_ROUNDOFF_32, finite


# Each precision's unit roundoff.
UNITS = {"float32": UNIT_ROUNDOFF_32, "bfloat16": 2.0**-8, "tf32": 2.0**-11}


class Evidence(NamedTuple):
    """One side's shorter precision on one seed.

    Attributes:
        problem: inputs and weights.
        exact: its own float64 run.
        short: its run in the shorter precision.
        spread: how far noise moves each quantity.
        ties: where noise moves whole numbers.
    """

    problem: Problem
    exact: Run
    short: Run
    spread: Mapping[str, float]
    ties: Arrays


@dataclasses.dataclass
class Judged:
    """Rows, and what to say beside them."""

    rows: list[rings.Row] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)


def judge(evidence: Mapping[str, list[Evidence]], dtype: str) -> Judged:
    """Rows of all sides that there is evidence of.

    Args:
        evidence: Framework -> one for each seed.
        dtype: The shorter precision.
    """
    judged = Judged()
    errors: dict[str, dict[tuple[str, int], tuple[float, float, int]]] = {}
    for framework, items in evidence.items():
        ratios: dict[str, list[float]] = {}
        errors[framework] = {}
        for item in items:
            decided = _decisions(item, framework, dtype)
            judged.rows += decided
            if any(row.note for row in decided):
                continue  # What follows from a tie is not comparable.
            for name, error, spread in _errors(item, UNITS[dtype]):
                size = item.exact.arrays[name].size
                errors[framework][name, item.problem.seed] = error, spread, size
                ratio = rings.precision_ratio(error, spread)
                if ratio is not None:
                    ratios.setdefault(name, []).append(ratio)
        case = f"{len(items)} seeds"
        judged.rows += rings.precision([(case, ratios)], f"{framework} {dtype}")
    if len(errors) == 2:
        judged.rows += rings.fairness(_both(errors), few=True)
        judged.remarks += [
            f"JAX's {dtype} error over torch's is {row.value:.2g} ({row.quantity}): "
            f"{row.note}"
            for row in judged.rows
            if row.ring == "C" and row.note
        ][:3]
    count, total, few = rings.ties(judged.rows)
    if not few:
        judged.remarks.append(
            f"{count} of {total} decisions in {dtype} are ties, more than "
            f"{MAX_TIE_SHARE:.0%}"
        )
    return judged


def _both(errors: Mapping[str, Mapping]) -> list[rings.Errors]:
    return [
        rings.Errors(
            key[0], errors["jax"][key][0], error, errors["jax"][key][1], spread, size
        )
        for key, (error, spread, size) in errors["torch"].items()
        if key in errors["jax"] and spread > 0.0 and errors["jax"][key][1] > 0.0
    ]


def _decisions(item: Evidence, framework: str, dtype: str) -> list[rings.Row]:
    rows = []
    for name, want in item.exact.arrays.items():
        got = item.short.arrays.get(name)
        if want.dtype.kind not in "biu" or name not in item.ties or got is None:
            continue
        rows.append(
            rings.decision(
                f"seed {item.problem.seed}", name, f"{framework} {dtype}", got, want,
                ties=item.ties[name],
            )
        )  # fmt: skip
    return rows


def _errors(item: Evidence, unit: float) -> list[tuple[str, float, float]]:
    """Quantity, error and spread; what is not finite in float64 is left out."""
    found = []
    for name, want in item.exact.arrays.items():
        got = item.short.arrays.get(name)
        if got is None or got.shape != want.shape:
            continue
        if name not in item.spread or want.dtype.kind != "f":
            continue
        there = np.isfinite(want)
        difference = np.where(there, np.asarray(got, np.float64) - finite(want), 0.0)
        error = float(np.linalg.norm(difference.reshape(-1)))
        # Constants are rounded too, once.
        size = float(np.linalg.norm(finite(want).reshape(-1)))
        least = unit * size if error else 0.0
        found.append((name, error, item.spread[name] or least))
    return found


def described(rows: list[dict[str, Any]]) -> list[str]:
    """What the rows say that fails nothing: bounds that are loose."""
    loose = sorted(
        {
            f"{row['quantity']} ({row['subject']})"
            for row in rows
            if row["ring"] == "B" and not row["ok"] and row["value"] <= row["bound"]
        }
    )
    if not loose:
        return []
    shown = ", ".join(loose[:4]) + (f" and {len(loose) - 4} more" if loose[4:] else "")
    return [f"precision is far better than predicted, its bound says little: {shown}"]
