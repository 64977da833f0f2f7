"""A callback of one's own: stop once the policy has moved far in three updates."""

from collections.abc import Mapping
from pathlib import Path

from trpo import Progress, preset_config
from trpo.callbacks import Callback, Stop
from trpo.runs.train import train_run


class FarSteps(Callback):
    """Its count is saved in every checkpoint, so a resumed run stops where it would."""

    count = 0

    def on_update(self, progress: Progress) -> Stop | None:
        """After each update; None goes on, False or a `Stop` stops."""
        self.count += progress.metrics["policy/kl"] > 0.005
        return Stop("too far three times") if self.count == 3 else None

    def get_state(self) -> dict:
        """As JSON can hold it."""
        return {"count": int(self.count)}

    def set_state(self, state: Mapping) -> None:
        """Before a resumed run goes on."""
        self.count = state["count"]


if __name__ == "__main__":
    config = preset_config("CartPole-v1", backend="torch", total_steps=20_000)
    train_run(config, Path("runs/watched"), callbacks=[FarSteps()])
