"""Data of constrained updates."""

import enum


class StepKind(enum.IntEnum):
    """Which of three problems the step of a constrained update solves."""

    FREE = 0
    """The trust region's best step keeps the limit: it is TRPO's own."""
    BOUND = 1
    """The best step that also keeps the linearised limit, which it reaches."""
    RECOVERY = 2
    """No step in the trust region keeps it: the one that lowers the cost most."""
