"""One seed's results of both sides in float64, judged quantity by quantity."""

from collections.abc import Mapping

import numpy as np

from parity_kit import rings
from parity_kit.certificate.record import Certificate
from parity_kit.sides import Arrays, Problem, Run
from parity_kit.tolerances import MAX_TIE_SHARE, scales


def judge_identity(
    problem: Problem,
    runs: Mapping[str, Run],
    condition: Mapping[str, float],
    certificate: Certificate,
) -> list[rings.Row]:
    """Ring A of floats and ring D of whole numbers, both sides in float64."""
    case = f"seed {problem.seed}"
    torch, jax = runs["torch"], runs["jax"]
    rows = _structures(case, torch, jax, certificate)
    broken = {certificate.stage(row.quantity) for row in rows}
    least = scales(torch.arrays)
    jax_arrays = _stacked(torch.arrays, jax.arrays)
    for name, want in torch.arrays.items():
        if certificate.stage(name) in broken or name.startswith("module/"):
            continue
        got = jax_arrays.get(name)
        if got is None:
            note = f"JAX has none; torch {list(want.shape)}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
        elif want.dtype.kind in "biu" and got.dtype.kind in "biu":
            tie = _tied_share(condition.get(name, 1.0), got, want)
            rows.append(rings.decision(case, name, "jax-torch", got, want, ties=tie))
        else:
            number = condition.get(name, 1.0)
            if got.dtype.kind != want.dtype.kind:
                certificate.remark(f"{name}: {want.dtype} in torch, {got.dtype} in JAX")
            rows.append(
                rings.identity(
                    case, name, "jax-torch", got, want, scale=least[name],
                    condition=number if np.isfinite(number) else 1.0,
                )
            )  # fmt: skip
    for name in jax_arrays:
        if name not in torch.arrays and certificate.stage(name) not in broken:
            note = f"torch has none; JAX {list(jax_arrays[name].shape)}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
    return rows


def _tied_share(
    condition: float, got: np.ndarray, want: np.ndarray
) -> np.ndarray | bool:
    """Numbers that an ulp of the inputs changes too are ties, if they are few."""
    if np.isfinite(condition) or got.shape != want.shape:
        return False
    return bool(np.mean(got != want) <= MAX_TIE_SHARE)


def _stacked(torch: Arrays, jax: Arrays) -> Arrays:
    """JAX's arrays; a probe under `vmap`, met once an element, as PyTorch's batch."""
    result = dict(jax)
    for name, want in torch.items():
        got = jax.get(name)
        if not name.startswith("probe/") or got is None or got.shape == want.shape:
            continue
        rows = [got]
        while f"{name}#{len(rows) + 1}" in jax:
            rows.append(jax[f"{name}#{len(rows) + 1}"])
        if want.shape == (len(rows), *got.shape) and f"{name}#2" not in torch:
            result = {n: a for n, a in result.items() if not n.startswith(f"{name}#")}
            result[name] = np.stack(rows)
    return result


def _structures(
    case: str, torch: Run, jax: Run, certificate: Certificate
) -> list[rings.Row]:
    """Probes in one side only, and outputs that are built differently."""
    for name in torch.facts["probes"]:
        if name not in certificate.probes:
            certificate.probes.append(name)
    rows = []
    ours, theirs = torch.facts["structures"], jax.facts["structures"]
    for name in [*ours, *theirs]:
        if "#" in name:
            continue
        if name not in ours or name not in theirs:
            side = "torch" if name in ours else "JAX"
            certificate.remark(f"only {side} has the {name.replace('/', ' ')}")
            continue
        if ours[name] != theirs[name]:
            note = f"built differently: torch {ours[name]}, JAX {theirs[name]}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
    return list(dict.fromkeys(rows))
