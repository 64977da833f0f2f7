"""A run on disk: what it holds, how it is started, resumed and loaded.

A run directory holds `config.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`,
`learning_curve.png` and, once it has ended, `evaluation.json`.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trpo.backends import make_agent
from trpo.checkpoint import (
    Checkpoint,
    CheckpointError,
    keep_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from trpo.checkpoint_fit import require_fit
from trpo.choices import MOST_EPISODES
from trpo.config import TrainConfig
from trpo.environments import make_environment
from trpo.files import FileError, Folder
from trpo.formats import CONFIG, numbered
from trpo.heads import Head
from trpo.metrics import read_metrics
from trpo.plots import plot_learning_curves
from trpo.spaces import policy_spec
from trpo.terminal import quoted
from trpo.training import Trainer, agent_state
from trpo.training_state import unrecorded
from trpo.user_modules import admitted, import_modules, needed_modules
from trpo.validation import require_between, require_count, shown


EVALUATION = "evaluation.json"
# In bytes: a thousand times what is written.
LARGEST_CONFIG = 2**20
PACKAGES = ("trpo", "numpy", "gymnasium", "torch", "jax", "flax", "optax", "mujoco")


class RunDirectoryError(ValueError):
    """A run directory is in the way, or is not one."""


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.learning_curve = self.path / "learning_curve.png"

    def create(self, config: TrainConfig) -> None:
        """Make the directory and write `config.json`.

        Raises:
            RunDirectoryError: something is there already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunDirectoryError(
                f"`run_dir`: expected a new or empty directory, got {self.path}, which "
                f"exists. Continue it by: trpo train --resume {quoted(self.path)}"
            )
        self.checkpoints.mkdir(parents=True)
        self.write_config(config)

    def write_config(self, config: TrainConfig) -> None:
        """Write `config.json`."""
        text = json.dumps(numbered(CONFIG, config.to_dict()), indent=2)
        with Folder(self.path) as folder:
            folder.write(CONFIG, f"{text}\n".encode())

    def read_config(
        self, modules: Sequence[str] = (), *, trust: bool = False
    ) -> TrainConfig:
        """The configuration of the run, to go on with it.

        Args:
            modules: The user's own code that it needs, in place of what it names.
            trust: Let it import whatever it names.

        Raises:
            UntrustedModuleError: it names code that the user has not named.
            RunDirectoryError: there is no readable `config.json`.
            ValueError: a field of it is unknown or out of range.
        """
        return admitted(self.shown_config(), modules, trust, str(self.path))

    def shown_config(self) -> TrainConfig:
        """The configuration of the run, to look at: what it names may be a stranger's.

        Raises:
            RunDirectoryError: there is no `config.json`, or a field of it is unknown
                or out of range.
            FileError: it is no regular file, or no JSON.
        """
        try:
            with Folder(self.path) as folder:
                values = folder.read_json(CONFIG, LARGEST_CONFIG)
        except OSError as error:
            raise RunDirectoryError(
                f"`run_dir`: expected the directory of a run, with a config.json, got "
                f"{self.path} ({error.strerror})."
            ) from error
        try:
            return TrainConfig.from_dict(values)
        except ValueError as error:
            raise RunDirectoryError(f"{self.path / CONFIG}: {error}") from error

    def read_evaluation(self) -> dict[str, Any] | None:
        """The final evaluation; None if there was none yet.

        Raises:
            FileError: it is not what `trpo.commands.evaluation_json` makes.
        """
        try:
            with Folder(self.path) as folder:
                found = folder.read_json(EVALUATION)
        except OSError:
            return None
        try:
            if not isinstance(found, dict):
                raise ValueError(f"expected a dictionary, got {shown(found)}.")
            numbers: list[Any] = [found.get(n) for n in ("mean", "std", "episodes")]
            mean, std, episodes = numbers
            require_between("mean", mean, -math.inf, math.inf)
            require_between("std", std, 0.0, math.inf)
            require_count("episodes", episodes, maximum=MOST_EPISODES)
        except ValueError as error:
            raise FileError(f"{self.path / EVALUATION}: {error}") from error
        return found

    def save(self, trainer: Trainer, note: dict | None = None) -> Path:
        """Write a checkpoint of the trainer; see `save_state`."""
        state = trainer.get_state()
        return self.save_state(
            trainer.config,
            trainer.collector.spec.head,
            trainer.step_count,
            state,
            {
                "restarts_on_resume": unrecorded(state),
                "restarted_on_resume": list(trainer.restarted_on_resume),
            },
            note,
        )

    def save_state(
        self,
        config: TrainConfig,
        head: Head,
        step: int,
        state: dict[str, np.ndarray],
        episodes: dict[str, list[int]] | None = None,
        note: dict | None = None,
    ) -> Path:
        """Write a checkpoint of a training state.

        Args:
            config: Of the run.
            head: The policy's distribution.
            step: Environment steps done.
            state: Under canonical names.
            episodes: Indices of environments whose open episode can't be restored,
                and of those that could not be when this run was resumed.
            note: More metadata, such as the callbacks' state.
        """
        metadata = {
            "config": config.to_dict(),
            "versions": installed_versions(),
            "platform": platform.platform(),
            "policy": dataclasses.asdict(head),
            "episodes": episodes or {},
            **(note or {}),
        }
        return save_checkpoint(
            self.checkpoints, step, state, metadata, keep=config.keep_checkpoints
        )

    def keep_only(
        self,
        config: TrainConfig,
        head: Head,
        step: int,
        state: dict[str, np.ndarray],
        note: dict,
    ) -> Path:
        """Make this a run directory of one checkpoint; see `save_state`.

        At every moment a checkpoint of before or the new one is there and valid.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_config(config)
        one = dataclasses.replace(config, keep_checkpoints=1)
        saved = self.save_state(one, head, step, state, note=note)
        # One of a later step stays there if the run was resumed from before it, and
        # would be taken for the newest.
        keep_checkpoint(self.checkpoints, step)
        return saved

    def load(self, step: int | None = None) -> tuple[Checkpoint, list[str]]:
        """The newest valid checkpoint, and what was wrong with newer ones.

        Args:
            step: The one of this step alone will do; None for any.

        Raises:
            FileError: the directory of checkpoints is a link, or no directory.
            CheckpointError: there is none.
        """
        with contextlib.ExitStack() as stack:
            found: Path | Folder = self.checkpoints
            with contextlib.suppress(OSError):  # Which is said below.
                run = stack.enter_context(Folder(self.path))
                found = stack.enter_context(run.folder(self.checkpoints.name))
            checkpoint, errors = newest_checkpoint(found, step)
        return checkpoint, [str(error) for error in errors]

    def draw_learning_curve(self, title: str) -> None:
        """Write `learning_curve.png` from `metrics.csv`."""
        rows = read_metrics(self.path / "metrics.csv")
        plot_learning_curves({title: rows}, self.learning_curve, title)


def load_agent(
    run_dir: Path | str,
    *,
    backend: str | None = None,
    device: str = "cpu",
    modules: Sequence[str] = (),
    trust: bool = False,
) -> tuple[Any, TrainConfig]:
    """The trained agent of a run, in either backend, and the run's configuration.

    Args:
        run_dir: Directory of a run.
        backend: "jax" or "torch"; by default the one that trained it.
        device: Device to put the agent on.
        modules: Your own code that the run needs, dotted names or paths; imported.
        trust: Import whatever code the run names.

    Raises:
        UntrustedModuleError: the run names code that you have not named.
        UserModuleError: that code can't be imported.
        RunDirectoryError: it is no run directory.
        CheckpointError: it has no valid checkpoint.
        MissingBackendError: the framework is not installed.
    """
    directory = RunDirectory(Path(run_dir))
    config = directory.read_config(modules, trust=trust)
    import_modules(config.modules)
    config = dataclasses.replace(
        config, backend=backend or config.backend, device=device
    )
    checkpoint, _ = directory.load()
    require_fit(config, checkpoint)
    env = make_environment(config.env_id, seed=config.seed)
    distribution = config.agent.policy_distribution
    spec = policy_spec(env.observation_space, env.action_space, distribution)
    env.close()
    _require_head(spec.head, checkpoint)
    agent = make_agent(config, spec)
    agent.set_state(agent_state(checkpoint.arrays))
    return agent, config


def quoted_run(run_dir: Path, config: TrainConfig) -> str:
    """A run as the words of a shell's command that goes on with it or loads it."""
    modules = needed_modules(config)
    option = ["--module"] if modules else []
    return " ".join([quoted(run_dir), *option, *map(quoted, modules)])


def _require_head(head: Head, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose policy has another distribution.

    Weights of equal shapes may belong to choices of other sizes.

    Raises:
        CheckpointError: the environment's actions are not those it was trained for.
    """
    saved = checkpoint.metadata.get("policy")
    wanted = json.loads(json.dumps(dataclasses.asdict(head)))
    # Checkpoints of before there were other distributions don't say.
    if saved is not None and saved != wanted:
        raise CheckpointError(
            f"{checkpoint.path}: expected a policy of {wanted}, as the environment "
            f"needs, got one of {saved}."
        )


def installed_versions() -> dict[str, str]:
    """Versions of this package and of those that its numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
