"""Which of the callbacks that come with the library a run has."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

from trpo.common.validation import (
    make_plain,
    require_between,
    require_bool,
    require_count,
    require_text,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallbackConfig:
    """Callbacks of a run, all off by default; they act on evaluations and metrics.

    They are part of the run's configuration, so that a resumed run has them too.

    Raises:
        ValueError: a field is out of range; the message names the field.
    """

    save_best: bool = False
    """Keep the model of the best evaluation in RUN_DIR/best; with --eval-interval."""
    stop_at_return: float | None = None
    """Stop once an evaluation's mean return is this or more; with --eval-interval."""
    video_every: int = 0
    """Film an episode at every k-th evaluation, into RUN_DIR/videos; 0 for none.
    Takes the extra `video`, and --eval-interval; not with --compiled."""
    wandb_project: str | None = None
    """Log each update's metrics to this Weights & Biases project; the extra `wandb`.
    WANDB_ENTITY names the team, WANDB_NAME the run, by default its directory."""

    GROUPS: ClassVar[Mapping[str, str]] = {
        "evaluation": "save_best",
        "saving and logging": "wandb_project",
    }

    def __post_init__(self) -> None:
        make_plain(self)
        require_bool("save_best", self.save_best)
        if self.stop_at_return is not None:
            require_between("stop_at_return", self.stop_at_return, -math.inf, math.inf)
        require_count("video_every", self.video_every, minimum=0)
        if self.wandb_project is not None:
            require_text("wandb_project", self.wandb_project, "the name of a project")

    def require_evaluations(self, eval_interval: int) -> None:
        """Refuse callbacks on evaluations where there are none.

        Raises:
            ValueError: names the first such field.
        """
        for name, off in (
            ("save_best", False),
            ("stop_at_return", None),
            ("video_every", 0),
        ):
            if getattr(self, name) != off and not eval_interval:
                raise ValueError(
                    f"`{name}`: expected evaluations during training, got "
                    "`eval_interval` 0; give --eval-interval, for example 10."
                )
