"""A row of the audit: two parts as they come, and again after a stated setting."""

from typing import NamedTuple

from parity_kit import Pair


class Row(NamedTuple):
    """One comparison.

    Attributes:
        torch: what is compared in PyTorch.
        jax: what is taken for it in JAX.
        defaults: both as they come, but for what has no default (sizes).
        meaning: what it means to someone who ports.
        setting: what makes them equal, if something does.
        matched: the pair after it.
    """

    torch: str
    jax: str
    defaults: Pair
    meaning: str
    setting: str = ""
    matched: Pair | None = None


def pairs_of(rows: dict[str, Row]) -> dict[str, Pair]:
    """All pairs by name; those after a setting end in " (set)"."""
    pairs = {name: row.defaults for name, row in rows.items()}
    pairs |= {f"{n} (set)": r.matched for n, r in rows.items() if r.matched is not None}
    return pairs
