"""A run on disk: what it holds, how it is started, resumed and loaded.

A run directory holds `config.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`,
`learning_curve.png` and, once it has ended, `evaluation.json`.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import math
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np

from trpo.agent.base import AgentBase
from trpo.agent.make import load_backend, make_agent
from trpo.agent.saved import require_room
from trpo.common.files import LOCK, TEMPORARY, FileError, Folder, absolute
from trpo.common.formats import CONFIG, numbered, removed_settings
from trpo.common.machine import processor_name
from trpo.common.terminal import quoted
from trpo.common.user_modules import admitted, import_modules
from trpo.common.validation import require_between, require_count, shown
from trpo.config.choices import MOST_EPISODES
from trpo.config.run import TrainConfig
from trpo.environments.make import make_environment
from trpo.environments.source import EnvironmentSource
from trpo.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    encode_checkpoint,
    has_checkpoint,
    keep_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from trpo.runs.checkpoint_fit import require_fit, restoring
from trpo.runs.learning_curves import learning_curves_png
from trpo.runs.metrics import METRICS, MetricsWriter, read_metrics
from trpo.spaces.action_heads import Head
from trpo.spaces.space_fields import spec_fields, spec_of
from trpo.spaces.spaces import PolicySpec, policy_spec
from trpo.spaces.user_networks import NETWORKS
from trpo.training.python_arguments import PythonArguments
from trpo.training.state import agent_state


EVALUATION, LEARNING_CURVE = "evaluation.json", "learning_curve.png"
CHECKPOINTS, BEST = "checkpoints", "best"
MEMBERS = "compiled.json"
"""What members a compiled run has."""
# Names of the project's own in a run directory; others there are the user's.
FILES = (
    CONFIG, METRICS, EVALUATION, LEARNING_CURVE, LOCK, MEMBERS, "members.csv",
    "learning_curves.png",
)  # fmt: skip
FOLDERS = (CHECKPOINTS, BEST, "tensorboard", "videos", "wandb")
# Of many runs, names in a message.
SHOWN = 5
# In bytes: a thousand times what is written.
LARGEST_CONFIG = 2**20
PACKAGES = ("trpo", "numpy", "gymnasium", "torch", "jax", "flax", "optax", "mujoco")


_T = TypeVar("_T")
SPEC = "spec"
"""Key of a checkpoint's metadata: the spaces that its agent was made for."""


class RunDirectoryError(ValueError):
    """A run directory is in the way, or is not one."""


class Moment(NamedTuple):
    """A run between two updates, as a checkpoint has it.

    Attributes:
        config: of the run.
        spec: the environment's spaces, and the policy's distribution.
        step: environment steps done.
        state: of the training, under canonical names.
        note: more metadata, such as the callbacks' state.
    """

    config: TrainConfig
    spec: PolicySpec
    step: int
    state: dict[str, np.ndarray]
    note: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        """What its checkpoint says beside the state."""
        return {
            "config": self.config.to_dict(),
            "versions": installed_versions(),
            "platform": platform.platform(),
            "processor": processor_name(),
            "threads": load_backend(self.config.backend).devices.device.threads(),
            "policy": dataclasses.asdict(self.spec.head),
            SPEC: spec_fields(self.spec),
            "episodes": {},
            **self.note,
        }

    def require_saveable(self) -> None:
        """Encode it and write nothing: what can't be saved is said at once.

        Raises:
            ValueError: it can't be saved; says why.
        """
        encode_checkpoint(self.step, self.state, self.metadata)


def config_in(
    folder: Folder, name: str = CONFIG, *, drop_removed: bool = False
) -> TrainConfig:
    """A configuration that is a file of a folder; see `RunDirectory.shown_config`."""
    values = folder.read_json(name, LARGEST_CONFIG)
    try:
        return TrainConfig.from_dict(values, drop_removed=drop_removed)
    except ValueError as error:
        raise RunDirectoryError(f"{folder.path / name}: {error}") from error


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: The directory. A link here is the user's own and followed, unless
        inside: is given: the run that the directory is part of.
    """

    path: Path
    checkpoints: Path

    def __init__(self, path: Path, inside: "RunDirectory | None" = None) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS
        self._inside = inside
        self._held: Folder | None = None

    def at(self, path: Path) -> "RunDirectory":
        """Another run directory, which may lie in this one."""
        if not path.is_relative_to(self.path):
            return RunDirectory(path)
        directory = self
        for name in path.relative_to(self.path).parts:
            directory = RunDirectory(directory.path / name, directory)
        return directory

    @contextlib.contextmanager
    def opened(self, *, make: bool = False) -> Iterator[Folder]:
        """The directory, for as long as the block."""
        if self._held is not None:
            yield self._held
        elif self._inside is None:
            with Folder(self.path, make=make) as folder:
                yield folder
        else:
            with (
                self._inside.opened(make=make) as around,
                around.folder(self.path.name, make=make) as folder,
            ):
                yield folder

    @contextlib.contextmanager
    def held(self, *, make: bool = False) -> Iterator[Folder]:
        """The directory, in which no other process writes until the block ends.

        Should it be deleted meanwhile, the next write makes it again, with what
        `Folder.keep` has been given.

        Raises:
            FileError: another process holds it; or a name of the project's own is
                taken by a link or a directory.
            OSError: it is not there.
        """
        with self.opened(make=make) as folder:
            folder.lock()
            _require_free(folder)
            self._held = folder
            try:
                yield folder
            finally:
                self._held = None

    @contextlib.contextmanager
    def held_for(self, resume: bool | None) -> Iterator[None]:
        """Hold it for a training; see `trpo.runs.train.train_run`."""
        if resume is False:
            self.require_new()
        with self.held(make=not resume):
            if resume is False:
                self.require_new()  # Another may just have begun and ended.
            yield

    def require_new(self) -> None:
        """Refuse a directory that has something in it.

        Raises:
            RunDirectoryError: see above.
        """
        names = ["a file"]
        try:
            with self.opened() as folder:
                names = folder.names()
        except FileNotFoundError:
            return
        except NotADirectoryError:
            if not self.path.exists():
                raise
        # With a lock somebody may hold it, who is named when it is to be locked.
        # And a run that was ended before it learned is as if it had not begun.
        locked = LOCK in names
        if self._held is not None:
            locked &= {*names} <= {LOCK, CONFIG, MEMBERS}
        if names and not locked:
            more = f" Continue it by: trpo train --resume {quoted(self.path)}"
            raise RunDirectoryError(
                f"`run_dir`: expected a new or empty directory, got {self.path}, which "
                f"exists.{more if CONFIG in names else ''}"
            )

    def discard(self) -> None:
        """Undo what begins a run."""
        with self.opened() as folder:
            for name in (MEMBERS, CONFIG, LOCK):
                folder.remove(name)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def write_config(self, config: TrainConfig) -> None:
        """Write `config.json`."""
        text = json.dumps(numbered(CONFIG, config.to_dict()), indent=2)
        with self.opened(make=True) as folder:
            folder.keep(CONFIG, f"{text}\n".encode())

    def write(self, name: str, content: bytes) -> None:
        """Replace a file of the run, durably."""
        with self.opened() as folder:
            folder.write(name, content)

    def remove(self, name: str) -> None:
        """Delete a file of the run, if it is there."""
        with self.opened() as folder:
            folder.remove(name)

    def metrics_writer(self, columns: tuple[str, ...], last_step: int) -> MetricsWriter:
        """See `MetricsWriter`."""
        return MetricsWriter(self._held or self.path, columns, last_step)

    def read_config(
        self,
        modules: Sequence[str] = (),
        *,
        trust: bool = False,
        drop_removed: bool = False,
    ) -> TrainConfig:
        """The configuration of the run, to go on with it or to act as it does.

        Args:
            modules: The user's own code that it needs, in place of what it names.
            trust: Let it import whatever it names.
            drop_removed: As of `TrainConfig.from_dict`: for acting only.

        Raises:
            UntrustedModuleError: it names code that the user has not named.
            RunDirectoryError: there is no readable `config.json`.
            ValueError: a field of it is unknown or out of range.
        """
        config = self.shown_config(drop_removed=drop_removed)
        return admitted(config, modules, trust, str(self.path))

    def shown_config(self, *, drop_removed: bool = False) -> TrainConfig:
        """The configuration of the run, to look at: what it names may be a stranger's.

        Args:
            drop_removed: As of `TrainConfig.from_dict`.

        Raises:
            RunDirectoryError: there is no `config.json`, or a field of it is unknown
                or out of range.
            FileError: it is no regular file, or no JSON.
        """
        try:
            with self.opened() as folder:
                return config_in(folder, drop_removed=drop_removed)
        except OSError as error:
            self._require_one()
            raise RunDirectoryError(
                f"`run_dir`: expected the directory of a run, with a config.json, got "
                f"{self.path} ({error.strerror})."
            ) from error

    def read_evaluation(self) -> dict[str, Any] | None:
        """The final evaluation; None if there was none yet.

        Raises:
            FileError: it is not what `trpo.runs.evaluate.evaluation_json` makes.
        """
        try:
            with self.opened() as folder:
                evaluation = folder.read_json(EVALUATION)
        except OSError:
            return None
        try:
            if not isinstance(evaluation, dict):
                raise ValueError(f"expected a dictionary, got {shown(evaluation)}.")
            numbers: list[Any] = [
                evaluation.get(n) for n in ("mean", "std", "episodes")
            ]
            mean, std, episodes = numbers
            require_between("mean", mean, -math.inf, math.inf)
            require_between("std", std, 0.0, math.inf)
            require_count("episodes", episodes, maximum=MOST_EPISODES)
        except ValueError as error:
            raise FileError(f"{self.path / EVALUATION}: {error}") from error
        return evaluation

    def save(self, moment: Moment) -> Path:
        """Write a checkpoint; older ones are left to `prune`."""
        with self.opened(make=True) as folder:
            if not folder.has(CONFIG):  # Deleted, or on the disk of another machine.
                self.write_config(moment.config)
            with folder.folder(CHECKPOINTS, make=True) as checkpoints:
                _, _, step, state, _ = moment
                return save_checkpoint(checkpoints, step, state, moment.metadata, None)

    def prune(self, config: TrainConfig, step: int) -> None:
        """Delete checkpoints that were left once the one of `step` is safe."""
        with self.opened() as folder, folder.folder(CHECKPOINTS) as checkpoints:
            prune_checkpoints(checkpoints, step, config.keep_checkpoints)

    def keep_only(self, moment: Moment) -> Path:
        """Make this a run directory of one checkpoint.

        At every moment a checkpoint of before or the new one is there and valid.
        """
        with self.held(make=True) as folder:
            self.write_config(moment.config)
            saved = self.save(moment)
            # One of a later step stays there if the run was resumed from before it,
            # and would be taken for the newest.
            with folder.folder(CHECKPOINTS) as checkpoints:
                keep_checkpoint(checkpoints, moment.step)
        return saved

    def load(self, step: int | None = None) -> tuple[Checkpoint, list[str]]:
        """The newest valid checkpoint, and what was wrong with newer ones.

        Args:
            step: The one of this step alone will do; None for any.

        Raises:
            CheckpointError: there is none.
            FileError: a directory on the way is a link, or none.
        """
        try:
            checkpoint, errors = self._with_checkpoints(
                lambda folder: newest_checkpoint(folder, step)
            )
        except CheckpointError:
            self._require_one()
            raise
        return checkpoint, [str(error) for error in errors]

    def _require_one(self) -> None:
        """Refuse a directory that holds many runs, which is none itself: name them.

        Raises:
            RunDirectoryError: see above.
        """
        runs = [
            path.parent.name
            for path in sorted(self.path.glob(f"*/{CONFIG}"))
            if path.parent.name not in FOLDERS
        ]
        if runs:
            listed = ", ".join([*runs[:SHOWN], *(["…"] if len(runs) > SHOWN else [])])
            raise RunDirectoryError(
                f"`run_dir`: expected one run, got {self.path}, which holds "
                f"{len(runs)}: {listed}. Name one, as in {quoted(self.path / runs[0])}"
            )

    def has_checkpoint(self) -> bool:
        """Whether one was ever saved, valid or not."""
        return self._with_checkpoints(has_checkpoint)

    def _with_checkpoints(self, ask: Callable[[Path | Folder], _T]) -> _T:
        try:
            with self.opened() as folder, folder.folder(CHECKPOINTS) as checkpoints:
                return ask(checkpoints)
        except FileNotFoundError:
            return ask(self.checkpoints)  # It knows what to say of none.

    def draw_learning_curve(self, title: str) -> None:
        """Write `learning_curve.png` from `metrics.csv`."""
        rows = read_metrics(self.path / METRICS)
        self.write(LEARNING_CURVE, learning_curves_png({title: rows}, title))


def _require_free(folder: Folder) -> None:
    """Refuse now what can't be written later, perhaps after hours of training.

    Raises:
        FileError: a directory has the name of a file, or something else that of one.
    """
    for name in (*FILES, *(f"{TEMPORARY}{name}" for name in FILES)):
        if folder.has_folder(name):
            raise FileError(
                f"{folder.path / name}: expected a file, got a directory: move it "
                "elsewhere."
            )
    for name in FOLDERS:
        with contextlib.suppress(FileNotFoundError), folder.folder(name) as inside:
            if name == BEST:
                _require_free(inside)


@contextlib.contextmanager
def directory_of(
    run_dir: Path | None, config: TrainConfig, kind: str = ""
) -> Iterator[Path]:
    """The directory of a new run: the given one, or one in `runs/` of a new name.

    Nothing is left of that, nor an empty `runs/`, if the block writes nothing there.

    Args:
        run_dir: The user's choice; None for a new one.
        config: Of the run.
        kind: Of the training, as a part of the name.
    """
    env_id = config.env_id.replace("/", "-")
    name = f"{env_id}-{config.backend}-seed{config.seed}{kind}"
    path = run_dir or new_directory(name)
    try:
        yield path
    finally:
        if run_dir is None:
            for empty in (path, path.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()


def new_directory(name: str) -> Path:
    """A directory in `runs/` that no other process has; its name ends with the time."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = absolute("runs") / f"{name}-{stamp}"
    for number in itertools.count(2):
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            break
        # Another was started in this second.
        path = path.with_name(f"{name}-{stamp}-{number}")
    return path


def load_agent(
    run_dir: Path | str,
    *,
    backend: str | None = None,
    device: str = "cpu",
    modules: Sequence[str] = (),
    trust: bool = False,
    policy_network: Any = None,
    value_network: Any = None,
    env: Any = None,
    step: int | None = None,
) -> tuple[AgentBase, TrainConfig]:
    """The trained agent of a run, in either backend, and the run's configuration.

    Args:
        run_dir: Directory of a run.
        backend: "jax" or "torch"; by default the one that trained it.
        device: Device to put the agent on.
        modules: Your own code that the run needs, dotted names or paths; imported.
        trust: Import whatever code the run names.
        policy_network: One like that which the run was given in Python, if it was, or
            what makes it; its weights become the run's.
        value_network: Likewise.
        env: A function that makes the run's environment, or one: of checkpoints that
            older versions wrote, which do not have its spaces.
        step: Of the checkpoint; by default the newest.

    Raises:
        UntrustedModuleError: the run names code that you have not named.
        UserModuleError: that code can't be imported.
        RunDirectoryError: it is no run directory.
        CheckpointError: it has no valid checkpoint.
        MissingBackendError: the framework is not installed.
    """
    arguments = PythonArguments(env, policy_network, value_network)
    return loaded_agent(
        run_dir, arguments, NETWORKS, backend, device, modules, trust, step
    )


def loaded_agent(
    run_dir: Path | str,
    arguments: PythonArguments,
    needed: Sequence[str],
    backend: str | None,
    device: str,
    modules: Sequence[str],
    trust: bool,
    step: int | None = None,
) -> tuple[Any, TrainConfig]:
    """`load_agent`, for what needs more of the run's arguments: see `require_fit`."""
    directory = RunDirectory(Path(run_dir))
    config = directory.shown_config(drop_removed=True)
    # What is given takes the place of what the run names.
    given = {n: None for n in NETWORKS if getattr(arguments, n) is not None}
    config = dataclasses.replace(config, **given)
    config = admitted(config, modules, trust, str(directory.path))
    config = arguments.applied(config)
    import_modules(config.modules)
    config = dataclasses.replace(
        config, backend=backend or config.backend, device=device
    )
    checkpoint, _ = directory.load(step)
    with warnings.catch_warnings(action="ignore"):  # Said once, of config.json.
        require_fit(config, checkpoint, arguments, needed=needed, drop_removed=True)
    spec = _spec(config, checkpoint, arguments)
    networks = arguments.policy_network, arguments.value_network
    agent = make_agent(config, spec, *networks)
    state = agent_state(checkpoint.arrays)
    if removed_settings(checkpoint.metadata["config"]):
        # The critic's fit that was removed may have had another state, or none.
        state = {n: state.get(n, new) for n, new in agent.get_state().items()}
    with restoring(checkpoint):
        agent.set_state(state)
    return agent, config


def _spec(
    config: TrainConfig, checkpoint: Checkpoint, arguments: PythonArguments
) -> PolicySpec:
    """What the agent was made for; the environment says it of older checkpoints."""
    if SPEC in checkpoint.metadata:
        own = {**vars(config), **arguments.options()}
        networks = [n.removesuffix("_network") for n in NETWORKS if own[n] is not None]
        with restoring(checkpoint):
            spec = spec_of(checkpoint.metadata[SPEC])
            require_room(spec, config.agent, networks, checkpoint.arrays)
        return spec
    source = EnvironmentSource.of_run(config, arguments.env)
    made = make_environment(source, seed=config.seed)
    distribution = config.agent.policy_distribution
    spec = policy_spec(made.observation_space, made.action_space, distribution)
    if not isinstance(arguments.env, gymnasium.Env):
        made.close()
    _require_head(spec.head, checkpoint)
    return spec


def _require_head(head: Head, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose policy has another distribution.

    Weights of equal shapes may belong to choices of other sizes.

    Raises:
        CheckpointError: the environment's actions are not those it was trained for.
    """
    saved = checkpoint.metadata.get("policy")
    expected = json.loads(json.dumps(dataclasses.asdict(head)))
    # Checkpoints of before there were other distributions don't say.
    if saved is not None and saved != expected:
        raise CheckpointError(
            f"{checkpoint.path}: expected a policy of {expected}, as the environment "
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
