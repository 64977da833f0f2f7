"""Weights carried between the frameworks: layouts and names, given or proposed."""

from parity_kit.weights.matching import infer
from parity_kit.weights.transforms import (
    TRANSFORMS,
    Entry,
    Map,
    as_source,
    check,
    to_jax,
    to_torch,
)


__all__ = [
    "TRANSFORMS",
    "Entry",
    "Map",
    "as_source",
    "check",
    "infer",
    "to_jax",
    "to_torch",
]
