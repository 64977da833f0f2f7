"""The callbacks that a run's configuration asks for."""

from trpo.callbacks.base import Callback
from trpo.callbacks.builtin import SaveBest, StopAtReturn, Video
from trpo.callbacks.wandb import WandbWriter
from trpo.config.run import TrainConfig


def configured_callbacks(config: TrainConfig) -> list[Callback]:
    """Made before anything is written, so that what is missing is said at once.

    Raises:
        ValueError: a package is missing, or the environment can't be filmed.
    """
    asked, callbacks = config.callbacks, list[Callback]()
    if asked.wandb_project is not None:
        callbacks.append(WandbWriter(asked.wandb_project))
    if asked.save_best:
        callbacks.append(SaveBest())
    if asked.video_every:
        callbacks.append(Video(asked.video_every, config.env_id))
    if asked.stop_at_return is not None:
        callbacks.append(StopAtReturn(asked.stop_at_return))
    return callbacks
