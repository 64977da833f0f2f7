"""Trust-region policy optimisation, the same agent in PyTorch and in JAX."""

import importlib


# As `typing` has it, which is not imported: the current directory of `python -m trpo`
# may have a file of that name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from trpo.agent.make import make_agent as make_agent
    from trpo.callbacks.base import Callback as Callback, Stop as Stop
    from trpo.config.agent import TRPOConfig as TRPOConfig
    from trpo.config.presets import preset_config as preset_config
    from trpo.config.run import TrainConfig as TrainConfig
    from trpo.data.report import StepStatus as StepStatus
    from trpo.rollout.evaluation import evaluate as evaluate
    from trpo.runs.compiled import train_compiled as train_compiled
    from trpo.runs.directory import load_agent as load_agent
    from trpo.runs.train import train_run as train_run
    from trpo.training.progress import Progress as Progress
    from trpo.training.trainer import Trainer as Trainer


__version__ = "0.1.0"

_EXPORTS = {
    "TRPOConfig": "trpo.config.agent",
    "TrainConfig": "trpo.config.run",
    "preset_config": "trpo.config.presets",
    "Callback": "trpo.callbacks.base",
    "Stop": "trpo.callbacks.base",
    "Progress": "trpo.training.progress",
    "Trainer": "trpo.training.trainer",
    "train_compiled": "trpo.runs.compiled",
    "train_run": "trpo.runs.train",
    "evaluate": "trpo.rollout.evaluation",
    "load_agent": "trpo.runs.directory",
    "make_agent": "trpo.agent.make",
    "StepStatus": "trpo.data.report",
}

__all__ = list(_EXPORTS)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import trpo` is quick."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'trpo' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
