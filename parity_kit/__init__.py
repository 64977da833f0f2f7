"""Prove a PyTorch function and a JAX function equal: `Pair`, `prove`, `probe`.

Neither framework is imported here: each runs in a process of its own.
"""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from parity_kit.certificate.record import Certificate as Certificate
    from parity_kit.pair import Pair as Pair
    from parity_kit.probes import probe as probe
    from parity_kit.proof import (
        compare as compare,
        prove as prove,
        record as record,
    )

_HOMES = {
    "Certificate": "certificate.record",
    "Pair": "pair",
    "compare": "proof",
    "probe": "probes",
    "prove": "proof",
    "record": "proof",
}
__all__ = ["Certificate", "Pair", "compare", "probe", "prove", "record"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
