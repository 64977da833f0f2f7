"""The four rings: each compares the results in the evidence, one row per comparison."""

import itertools
import math
from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np

from parity_kit import rings
from parity_kit.rings import Row
from parity_kit.tolerances import IDENTITY, UNSTABLE
from parity_tests.common.tolerances import BOUNDS
from parity_tests.reference.all_stages import EXACT
from parity_tests.reference.update import Stages
from parity_tests.rings.evidence import Evidence


UNIT_ROUNDOFF_64 = 2.0**-53


def identity(evidence: Evidence) -> list[Row]:
    """Float64 identity of both backends and the third implementation, pairwise."""
    exact = evidence.reference
    torch, jax = (evidence.results[name, "float64"] for name in ("torch", "jax"))
    rows = _names_agree(evidence, torch, jax)
    for quantity in exact.values:
        pairs = {
            "jax-torch": (jax.values[quantity], torch.values[quantity]),
            "torch-truth": (torch.values[quantity], exact.values[quantity]),
            "jax-truth": (jax.values[quantity], exact.values[quantity]),
        }
        if not evidence.comparable(quantity, torch, jax):
            continue  # The decisions differ, which ring D judges.
        for subject, (got, want) in pairs.items():
            rows.append(_identity_row(evidence, quantity, subject, got, want))
    return rows


def identity_across(
    on_first: Evidence, on_second: Evidence, *, devices: tuple
) -> list[Row]:
    """Float64 identity of backends that ran on different devices.

    Args:
        on_first: evidence on a problem from the first device.
        on_second: evidence on the same problem from the second device.
        devices: the devices' names, for the rows.
    """
    rows = []
    first, second = (
        {name: item.results[name, "float64"] for name in ("torch", "jax")}
        for item in (on_first, on_second)
    )
    for left, right in itertools.product(first, second):
        subject = f"{left}-{devices[0]} to {right}-{devices[1]}"
        for quantity in on_first.reference.values:
            if on_first.comparable(quantity, first[left], second[right]):
                got, want = first[left].values[quantity], second[right].values[quantity]
                rows.append(_identity_row(on_first, quantity, subject, got, want))
    return rows


def _names_agree(evidence: Evidence, *subjects: Stages) -> list[Row]:
    expected = set(evidence.reference.values)
    missing = set().union(*(expected ^ set(subject.values) for subject in subjects))
    return [
        Row("A", evidence.name, name, "jax-torch", math.inf, 0.0, False, "not in both")
        for name in sorted(missing)
    ]


def _identity_row(
    evidence: Evidence, quantity: str, subject: str, got: np.ndarray, want: np.ndarray
) -> Row:
    got, want = np.asarray(got), np.asarray(want)
    assert BOUNDS[quantity, "float64"].value == IDENTITY, "ring A has one bound"
    scale = evidence.reference.scales.get(quantity, 0.0)
    given = (evidence.name, quantity, subject, got, want)
    row = rings.identity(*given, scale=scale)
    if got.dtype != np.float64 or want.dtype != np.float64:
        return row._replace(value=math.inf, ok=False, note=f"{got.dtype}, {want.dtype}")
    if not np.isfinite(want).all():
        return row._replace(value=math.inf, ok=False, note="NaN or infinity")
    if not row.ok and row.value < 1e-4:
        # Above the bound only as far as the measured condition number explains.
        size = max(float(np.linalg.norm(want)), scale)
        condition = evidence.condition(quantity) / size
        explained = UNSTABLE * UNIT_ROUNDOFF_64 * condition / IDENTITY
        row = rings.identity(*given, scale=scale, condition=explained)
        if explained > 1.0:
            row = row._replace(note=f"condition number {condition:.0e}")
    return row


def precision(
    evidence: Sequence[Evidence],
    shows_in: Container[str] | None = None,
    unstable: float = UNSTABLE,
) -> list[Row]:
    """Float32 against the float64 reference, in units of rounding's predicted spread.

    Args:
        evidence: Results, each case's seeds next to each other.
        shows_in: Quantities in which the rounding must show; by default all. TF32
            rounds in matrix products alone, the simulation everywhere.
        unstable: Largest ratio.
    """
    rows = []
    for framework in ("torch", "jax"):
        grouped = itertools.groupby(evidence, key=lambda e: e.name)
        ratios = ((name, _ratios(group, framework)) for name, group in grouped)
        rows += rings.precision(ratios, framework, shows_in, unstable)
    return rows


def _ratios(group: Iterable[Evidence], framework: str) -> dict[str, list[float]]:
    """Float32 error over predicted spread, for each quantity and seed."""
    ratios: dict[str, list[float]] = {}
    for evidence in group:
        subject = evidence.results[framework, "float32"]
        for quantity, want in evidence.reference.values.items():
            got = np.asarray(subject.values[quantity])
            if got.dtype != np.float32 or got.shape != np.shape(want):
                ratios.setdefault(quantity, []).append(math.inf)
                continue
            if not evidence.comparable(quantity, subject):
                continue
            if quantity in EXACT:
                if not np.array_equal(got, np.float32(want)):
                    ratios.setdefault(quantity, []).append(math.inf)
                continue
            ratio = precision_ratio(evidence, framework, quantity)
            if ratio is not None:
                ratios.setdefault(quantity, []).append(ratio)
    return ratios


def precision_ratio(evidence: Evidence, framework: str, quantity: str) -> float | None:
    """Float32 error over its predicted spread; None where both are 0 by construction.

    Not finite numbers count as an infinite error.
    """
    got = evidence.results[framework, "float32"].values[quantity]
    error = float(
        np.linalg.norm(got.astype(np.float64) - evidence.reference.values[quantity])
    )
    return rings.precision_ratio(error, evidence.spread(quantity))


def fairness(evidence: Sequence[Evidence]) -> list[Row]:
    """JAX's float32 error over torch's: geometric mean over all cases and seeds."""
    return rings.fairness(error for item in evidence for error in _errors(item))


def _errors(item: Evidence) -> Iterator[rings.Errors]:
    torch, jax = (item.results[name, "float32"] for name in ("torch", "jax"))
    for quantity, want in item.reference.values.items():
        spread = item.spread(quantity)
        comparable = item.comparable(quantity, torch, jax)
        if quantity not in EXACT and spread != 0.0 and comparable:
            errors = (
                float(np.linalg.norm(subject.values[quantity] - want))
                for subject in (jax, torch)
            )
            yield rings.Errors(quantity, *errors, spread)


def decisions(
    evidence: Evidence, dtypes: Container[str] = ("float32", "float64")
) -> list[Row]:
    """Discrete decisions: equal to the reference's, or too close to call in float64."""
    rows = []
    for (framework, dtype), subject in evidence.results.items():
        if dtype not in dtypes:
            continue
        for decision, want in evidence.reference.decisions.items():
            got = subject.decisions.get(decision)
            note, ok = "", got == want
            if not ok:
                tied = got is not None and _tied(evidence, decision, got, dtype)
                # What follows from a tie is no second one.
                caused = _caused_by_tie(evidence, decision, subject, dtype)
                ok = tied or caused
                note = "tie" if tied else "follows" if caused else f"{got}, not {want}"
            rows.append(
                Row("D", evidence.name, decision, f"{framework}-{dtype}",
                    math.nan if got is None else float(got), float(want), ok, note)
            )  # fmt: skip
    return rows


def _tied(evidence: Evidence, decision: str, got: int, dtype: str) -> bool:
    """Whether the decision is a tie: its margin in float64 is within its error bar.

    The margin is taken where `got` first differs from the reference's decision.
    """
    want = evidence.reference.decisions[decision]
    shrink = 1.0 if dtype == "float32" else UNIT_ROUNDOFF_64 / 2.0**-24
    if decision in ("cg/iterations", "update/cg_iterations"):
        trace = "cg" if decision.startswith("cg") else "update/cg"
        k = min(got, want)
        margins = {trace: evidence.config.cg_residual_tol}
    elif decision in ("line_search/index", "update/index"):
        name = decision.partition("/")[0]
        k = min(i for i in (got, want) if i >= 0)
        margins = {
            f"{name}/improvement": 0.0,
            f"{name}/kl": evidence.config.target_kl,
        }
    else:
        return False
    for trace, threshold in margins.items():
        margin = abs(evidence.reference.traces[trace][k] - threshold)
        if margin <= UNSTABLE * shrink * evidence.trace_spread(trace)[k]:
            return True
    return False


def _caused_by_tie(
    evidence: Evidence, decision: str, subject: Stages, dtype: str
) -> bool:
    causes = {
        "update/index": ("update/cg_iterations",),
        "update/accepted": ("update/cg_iterations", "update/index"),
        "update/status": ("update/cg_iterations", "update/index"),
    }
    for cause in causes.get(decision, ()):
        got = subject.decisions[cause]
        if got != evidence.reference.decisions[cause] and _tied(
            evidence, cause, got, dtype
        ):
            return True
    return False
