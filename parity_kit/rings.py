"""The four rings, judged on plain numbers: identity, precision, fairness, decisions."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from parity_kit.tolerances import (
    FAIRNESS,
    IDENTITY,
    MAX_TIE_SHARE,
    UNSTABLE,
    VACUOUS,
    finite,
    relative_error,
    same_not_finite,
)


class Row(NamedTuple):
    """One comparison.

    Attributes:
        ring: "A" identity, "B" precision, "C" fairness, "D" decisions.
        case: what it was compared on, such as "seed 0", or "all" where they are pooled.
        quantity: the quantity or decision that was compared.
        subject: the implementations that were compared, such as "jax-torch".
        value: the error, or the ratio.
        bound: largest `value` (for ring C also the inverse of the smallest).
        ok: whether `value` is within the bound.
        note: why it is not, or why it is although it looks wrong.
    """

    ring: str
    case: str
    quantity: str
    subject: str
    value: float
    bound: float
    ok: bool
    note: str = ""


def identity(
    case: str,
    quantity: str,
    subject: str,
    got: np.ndarray,
    want: np.ndarray,
    *,
    scale: float = 0.0,
    condition: float = 1.0,
) -> Row:
    """Float64 identity of one quantity: 1e-10 times its condition number.

    Args:
        case: What it was measured on.
        quantity: Its name.
        subject: What is compared with what.
        got: One side's array.
        want: The other side's.
        scale: Least size that the error is taken relative to.
        condition: Its condition number, measured in one framework.
    """
    bound = IDENTITY * max(1.0, condition)
    if got.shape != want.shape:
        first, _, second = subject.partition("-")
        note = f"shapes: {first} {list(got.shape)}, {second} {list(want.shape)}"
        return Row("A", case, quantity, subject, math.inf, bound, False, note)
    if not same_not_finite(got, want):
        note = "NaN or infinity at other places"
        return Row("A", case, quantity, subject, math.inf, bound, False, note)
    error = relative_error(finite(got), finite(want), scale)
    notes = []
    if not np.all(np.isfinite(want)):
        notes.append("NaN or infinity at the same places")
    if condition > 1.0 and error > IDENTITY:
        notes.append(f"condition number {condition:.0e}")
    ok = bool(error <= bound)
    return Row("A", case, quantity, subject, error, bound, ok, "; ".join(notes))


def decision(
    case: str,
    quantity: str,
    subject: str,
    got: np.ndarray,
    want: np.ndarray,
    *,
    ties: np.ndarray | bool = False,
) -> Row:
    """Whole numbers: equal, but for those that are too close to call.

    Args:
        case: What it was measured on.
        quantity: Its name.
        subject: What is compared with what.
        got: One side's array.
        want: The other side's.
        ties: Where rounding alone changes the number.
    """
    if got.shape != want.shape:
        note = f"shapes: {list(got.shape)}, {list(want.shape)}"
        return Row("D", case, quantity, subject, math.inf, 0.0, False, note)
    differs = np.asarray(np.asarray(got) != np.asarray(want))
    wrong = differs & ~np.broadcast_to(ties, differs.shape)
    count, tied = int(wrong.sum()), int((differs & ~wrong).sum())
    note = f"{count} of {differs.size} differ" if count else "tie" if tied else ""
    return Row("D", case, quantity, subject, float(count), 0.0, count == 0, note)


def precision_ratio(error: float, spread: float) -> float | None:
    """Error over its predicted spread; None where both are 0 by construction.

    Not finite numbers count as an infinite error.
    """
    if error == 0.0 and spread == 0.0:
        return None  # a clamp for example
    ratio = error / spread if spread > 0 else math.inf
    return math.inf if math.isnan(ratio) else ratio


def precision(
    ratios: Iterable[tuple[str, Mapping[str, Sequence[float]]]],
    framework: str,
    shows_in: Container[str] | None = None,
    unstable: float = UNSTABLE,
) -> list[Row]:
    """Float32 against float64, in units of rounding's predicted spread.

    "Unstable" is judged case by case over its seeds; "vacuous" over all cases, since
    one number of one case is often exact by luck.

    Args:
        ratios: Each case and its ratios by quantity, one for each seed.
        framework: Whose float32 it is.
        shows_in: Quantities in which the rounding must show; by default all. TF32
            rounds in matrix products alone, the simulation everywhere.
        unstable: Largest ratio.
    """
    rows: list[Row] = []
    pooled: dict[str, list[float]] = {}
    for case, of_case in ratios:
        for quantity, values in of_case.items():
            ratio = _root_mean_square(values)
            pooled.setdefault(quantity, []).extend(values)
            ok = ratio <= unstable
            note = "" if ok else "unstable formula"
            rows.append(Row("B", case, quantity, framework, ratio, unstable, ok, note))
    for quantity, values in pooled.items():
        ratio = _root_mean_square(values)
        must_show = shows_in is None or quantity in shows_in
        ok = ratio >= VACUOUS or not must_show
        note = "" if ok else "vacuous: the noise predicts far more"
        rows.append(Row("B", "all", quantity, framework, ratio, unstable, ok, note))
    return rows


def _root_mean_square(numbers: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(numbers))))


class Errors(NamedTuple):
    """Both sides' float32 errors of one quantity on one seed.

    Attributes:
        quantity: its name.
        jax: JAX's error.
        torch: torch's.
        spread: what rounding predicts, of JAX.
        torch_spread: of torch, where it's another formula; else None.
        size: how many numbers the quantity has.
    """

    quantity: str
    jax: float
    torch: float
    spread: float
    torch_spread: float | None = None
    size: int = 1


def fairness(errors: Iterable[Errors], few: bool = False) -> list[Row]:
    """JAX's float32 error over torch's: geometric mean over all cases and seeds.

    Errors below a twentieth of the predicted spread count as that: how much luckier one
    backend was with one number says nothing about either. What both formulas' spreads
    predict is no unfairness, and is noted.

    Args:
        errors: Of each quantity and seed.
        few: Whether they are so few that the bound allows for luck.
    """
    groups: dict[str, list[Errors]] = {}
    for item in errors:
        groups.setdefault(item.quantity, []).append(item)
    rows = []
    for quantity, items in groups.items():
        ratio = math.exp(np.mean([_log_ratio(item) for item in items]))
        luck = _luck(items) if few else 1.0
        low, high = FAIRNESS[0] / luck, FAIRNESS[1] * luck
        ok, note = bool(low <= ratio <= high), ""
        if not ok and items[0].torch_spread is not None:
            own = math.exp(np.mean([_log_spreads(item) for item in items]))
            if low <= ratio / own <= high:
                ok, note = True, f"the formulas' own spreads differ by {own:.2g}"
        rows.append(Row("C", "all", quantity, "jax/torch", ratio, high, ok, note))
    return rows


def _log_ratio(item: Errors) -> float:
    least = VACUOUS * item.spread
    torch_spread = item.spread if item.torch_spread is None else item.torch_spread
    return math.log((item.jax + least) / (item.torch + VACUOUS * torch_spread))


def _log_spreads(item: Errors) -> float:
    assert item.torch_spread is not None
    return math.log(item.spread / item.torch_spread)


def _luck(items: Sequence[Errors]) -> float:
    """How far chance takes the ratio of two equally good formulas, at 2.6 sigma.

    The logarithm of the ratio of two normal numbers has a standard deviation of 1.57.
    """
    numbers = min(items[0].size, 16) * len(items)
    return math.exp(2.6 * 1.57 / math.sqrt(numbers))


def ties(rows: Iterable[Row], share: float = MAX_TIE_SHARE) -> tuple[int, int, bool]:
    """Ties, decisions, and whether the share of ties is within its bound."""
    rows = [row for row in rows if row.ring == "D"]
    count = sum(row.note == "tie" for row in rows)
    return count, len(rows), count <= share * len(rows)
