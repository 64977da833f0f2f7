"""Arguments of the commands, with the help that they show."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from trpo.config.choices import Backend
from trpo.config.ranks import RankArguments
from trpo.config.run import TrainConfig


Modules = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="module", metavar="NAME_OR_PATH [NAME_OR_PATH ...]"),
]
"""A field `modules` that is typed as --module."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TypedConfig(TrainConfig):
    """A run's configuration as it is typed: the environment's id needs no flag.

    Here, so that the configuration itself imports no command line.
    """

    env_id: tyro.conf.Positional[str]
    """Gymnasium environment id, for example Pendulum-v1 or HalfCheetah-v5."""
    modules: Modules = ()
    """Your own code, which registers the environment: dotted names, or paths of .py
    files or packages. Each path's folder goes to the end of sys.path."""

    @classmethod
    def of(cls, config: TrainConfig) -> "TypedConfig":
        """The same settings."""
        return _as(cls, config)

    @property
    def plain(self) -> TrainConfig:
        """The same settings."""
        return _as(TrainConfig, self)


def _as(kind: Any, config: TrainConfig) -> Any:
    fields = dataclasses.fields(config)
    return kind(**{field.name: getattr(config, field.name) for field in fields})


@dataclasses.dataclass
class TrainArguments:
    """Train an agent on a Gymnasium environment.

    Defaults are those of the environment's preset. Ctrl-C saves and exits.
    """

    config: TypedConfig
    preset: str | None = None
    """Preset to start from instead of the environment's own; see `trpo presets`."""
    run_dir: Path | None = None
    """Directory to write to; by default a new one under runs/."""
    resume: Path | None = None
    """Continue this run directory instead; takes --total-steps and little else."""
    compiled: bool = False
    """Train in one JAX program; for functional environments such as phys2d/…"""
    num_seeds: int = 1
    """With --compiled: members of seeds `seed`, `seed` + 1, … trained at once."""
    sweep: tuple[str, ...] = ()
    """With --compiled: NAME=VALUE,VALUE,… …; each combination is trained at once."""
    ranks: RankArguments = dataclasses.field(default_factory=RankArguments)
    """Many processes."""


@dataclasses.dataclass
class ResumeArguments:
    """Continue a run from its newest valid checkpoint, bit for bit on CPU."""

    resume: Path
    """Run directory to continue."""
    total_steps: int | None = None
    """New budget of environment steps; by default the run's own."""
    modules: Modules = ()
    """Your own code that the run needs, in place of what it names."""
    wandb_project: str | None = None
    """Log to this Weights & Biases project, in place of the one that the run names."""
    trust: bool = False
    """Import whatever code the run names, and upload to the project that it names."""
    ranks: RankArguments = dataclasses.field(default_factory=RankArguments)
    """Many processes, of any number."""


@dataclasses.dataclass
class EvaluateArguments:
    """Score the newest checkpoint of a run on whole episodes, by raw returns."""

    run_dir: tyro.conf.Positional[Path]
    """Directory that `trpo train` wrote."""
    episodes: int = 20
    """Number of episodes."""
    eval_max_steps: int | None = None
    """Steps after which an episode is cut; by default the run's."""
    modules: Modules = ()
    """Your own code that the run needs, in place of what it names."""
    trust: bool = False
    """Import whatever code the run names."""
    backend: Backend | None = None
    """Framework to run in; by default the one that trained it."""
    device: str = "cpu"
    """Device of the framework."""
    seed: int | None = None
    """Seed of the episodes; by default the run's."""
    stochastic: bool = False
    """Sample actions instead of taking the policy's most likely ones."""
    video: Path | None = None
    """Record one episode as MP4 into this directory."""
    json: bool = False
    """Print the result as JSON instead."""


@dataclasses.dataclass
class PlotArguments:
    """Draw returns, trust region, solver, critic and time of runs; compare several.

    Writes diagnostics.png, and diagnostics.html, one file that needs no network.
    """

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories that `trpo train` or `trpo sweep` wrote; of many members, all."""
    out: Path | None = None
    """Directory to write to; by default that of a single run, else this one."""


@dataclasses.dataclass
class PresetsArguments:
    """List presets, or show the values of one and the reason of each."""

    name: tyro.conf.Positional[str | None] = None
    """A preset's name, or an environment's id."""


@dataclasses.dataclass
class ParityArguments:
    """Prove that the two backends are equal, and each right, on this machine."""

    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
    """Devices to compare on; one that is absent is reported as not run."""
    quick: bool = False
    """A selection of cases, the default."""
    full: bool = False
    """Every case."""
    out: Path = Path("runs/parity")
    """Directory for the certificate."""
