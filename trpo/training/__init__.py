"""The loop in memory."""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from trpo.training.progress import Progress as Progress
    from trpo.training.trainer import Trainer as Trainer


def __getattr__(name: str):  # noqa: ANN202
    """Import a name when it is first used: a backend reads states, not the loop."""
    if name == "Progress":
        from trpo.training.progress import Progress

        return Progress
    if name == "Trainer":
        from trpo.training.trainer import Trainer

        return Trainer
    raise AttributeError(f"module 'trpo.training' has no attribute {name!r}")
