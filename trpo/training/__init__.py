"""The loop in memory."""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from trpo.training.progress import Progress as Progress
    from trpo.training.trainer import Trainer as Trainer


_EXPORTS = {
    "Progress": "trpo.training.progress",
    "Trainer": "trpo.training.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a backend reads states, not the loop."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'trpo.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
