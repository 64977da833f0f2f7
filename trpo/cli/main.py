"""The `trpo` command: train, sweep, tune, evaluate, plot, parity, doctor and more."""

import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

import trpo
from trpo.cli.arguments import UnknownOptionError, options_of, parse
from trpo.common.files import Folder, absolute, started_here
from trpo.common.framework_settings import prepare_frameworks
from trpo.common.signals import stop_signals
from trpo.common.terminal import Terminal, safe_streams, silent, word
from trpo.common.user_modules import (
    UntrustedError,
    admitted,
    import_modules,
    safe_path,
    typed_modules,
)
from trpo.common.validation import close_to, require_count
from trpo.config.choices import MOST_EPISODES, Backend
from trpo.config.ranks import RankArguments
from trpo.config.run import NAMES_OF_CODE, TrainConfig
from trpo.environments.environment_worker import EnvironmentWorkerError


HELP = """\
usage: trpo COMMAND ...

Trust-region policy optimisation, the same agent in PyTorch and in JAX.

commands:
{}

`trpo COMMAND --help` lists a command's options. For example:
  trpo train Pendulum-v1 --backend jax --seed 0
"""
# Kind of error -> exit status of a user's mistake, which needs no traceback.
USER_ERROR = 2
# As of a process that a closed pipe ends; and of one that Ctrl-C does.
CLOSED_PIPE, INTERRUPTED = 141, 130


Modules = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="module", metavar="NAME_OR_PATH ..."),
]
"""A field `modules` that is typed as --module."""


class Command(NamedTuple):
    """A command of `trpo`.

    Attributes:
        run: takes its arguments, parsed or as they are; returns the exit status.
        usage: lines of the help, "WORDS: what it does".
        writes: whether what it has done is in files, and so counts where nothing can be
            printed.
    """

    run: Callable[[Any], int]
    usage: tuple[str, ...]
    writes: bool


COMMANDS: dict[str, Command] = {}


def command(*usage: str, writes: bool = False) -> Callable:
    """Make a function `_name` the command `name`; see `Command`."""

    def register(run: Callable[[Any], int]) -> Callable[[Any], int]:
        COMMANDS[run.__name__.removeprefix("_")] = Command(run, usage, writes)
        return run

    return register


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _apart(sys.argv[1:] if argv is None else argv)
    with started_here(), safe_path(), safe_streams() as out:
        status = _status(arguments)
        out.flush()
        command = COMMANDS.get("".join(arguments[:1]))
        if status or out.error is None or (command and command.writes):
            return status
        if isinstance(out.error, BrokenPipeError):
            return CLOSED_PIPE
        return _fail(f"standard output: {out.error}")


def _help() -> list[str]:
    lines = [
        f"  {f'{name} {words}':23}{text}"
        for name, command in COMMANDS.items()
        for words, _, text in (line.partition(": ") for line in command.usage)
    ]
    return HELP.format("\n".join(lines)).splitlines()


GENERAL = {
    "-h": _help, "--help": _help, "--version": lambda: [f"trpo {trpo.__version__}"],
}  # fmt: skip


def _status(arguments: list[str]) -> int:
    if not arguments or arguments[0] in GENERAL:
        asked = GENERAL.get("".join(arguments[:1]), _help)
        Terminal().say(*asked())
        return 0 if arguments else USER_ERROR
    if arguments[0] not in COMMANDS:
        known, close = ", ".join(COMMANDS), close_to(arguments[0], COMMANDS)
        return _fail(f"expected one of {known}, got {arguments[0]!r}.{close}")
    if arguments.count("--module") > 1:
        return _fail("expected --module once, with all names behind it.")
    try:
        name, *rest = arguments
        run = COMMANDS[name].run
        kind = next(iter(run.__annotations__.values()))
        return run(_parse(kind, rest, name) if isinstance(kind, type) else rest)
    except UntrustedError as error:
        command = " ".join(map(word, error.typed(arguments)))
        # A new run has no --trust: what it takes from another is typed.
        can_trust = name != "train" or "--resume" in " ".join(rest)
        more = " (or --trust, whatever it names)" * can_trust
        return _fail(error.told(f"trpo {command}{more}"))
    except (ValueError, ImportError, OSError, EnvironmentWorkerError) as error:
        return _fail(_of_option(error, rest))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        Terminal(stderr=True).crash(error)
        return 1


def _apart(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the name in `--module=NAME` one of its own."""
    parts = [a.split("=", 1) if a.startswith("--module=") else [a] for a in arguments]
    return list(itertools.chain.from_iterable(parts))


def _of_option(error: Exception, arguments: list[str]) -> Exception | str:
    """What the system refused, by the option that names the path, if one does."""
    name = getattr(error, "filename", None)
    if not (isinstance(error, OSError) and isinstance(name, str)):
        return error
    place, by = absolute(name), ""
    words = [part for word in arguments for part in word.split("=", 1)]
    for option, value in itertools.pairwise(words):
        # It may be one inside; or above, which could not be made either.
        inside, typed = place.is_relative_to(absolute(value)), absolute(value)
        if option.startswith("--") and (inside or typed.is_relative_to(place)):
            place, by = (place if inside else typed), f"`{option}`: "
            break
    is_default = not by and place.is_relative_to(absolute("runs"))
    more = " Choose another by --run-dir or --out." * is_default
    return (
        f"{by}expected a path that can be used, got {place} ({error.strerror}).{more}"
    )


def _fail(error: BaseException | str) -> int:
    Terminal(stderr=True).error(error)
    return USER_ERROR


def _parse(kind: Any, arguments: list[str], command: str, default: Any = None) -> Any:
    try:
        parsed = parse(kind, arguments, f"trpo {command}", default)
        # Code of the user's may change the directory.
        given = vars(parsed).items()
        paths = {name: absolute(v) for name, v in given if isinstance(v, Path)}
        return dataclasses.replace(parsed, **paths)
    except UnknownOptionError as error:
        if others := [n for n in COMMANDS if error.name in _options_of(n)]:
            names = ", ".join(f"`trpo {name}`" for name in others)
            has = "has" if len(others) == 1 else "have"
            error.args = (f"{error} {names} {has} {error.name}.",)
        raise


def _options_of(command: str) -> set[str]:
    kinds: dict[str, Any] = {
        name: next(iter(of.run.__annotations__.values()))
        for name, of in COMMANDS.items()
    }
    if command in ("sweep", "tune"):
        of_many = importlib.import_module("trpo.cli.sweep_command")
        kinds |= {"sweep": of_many.SweepArguments, "tune": of_many.TuneArguments}
    kind = kinds[command]
    return {one.name for one in options_of(kind)} if isinstance(kind, type) else set()


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


def _as(kind: Any, config: TrainConfig, **changes: Any) -> Any:
    """The same settings, but for changes, as those that are typed or those of a run."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return kind(**values | changes)


@dataclasses.dataclass
class TrainArguments:
    """Train an agent on a Gymnasium environment.

    Defaults are those of the environment's preset. Ctrl-C saves and exits.
    """

    config: TypedConfig
    preset: str | None = None
    """Preset to start from instead of the environment's own; see `trpo presets`."""
    start_from: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run whose settings and newest weights to start from, instead of a preset."""
    settings: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """File of a run's settings, as RUN/config.json, to start from instead."""
    quiet: bool = False
    """Print errors alone."""
    run_dir: Path | None = None
    """Directory to write to; by default a new one under runs/."""
    threads: int | None = None
    """Threads that compute on the CPU; by default one for each core."""
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
    quiet: bool = False
    """Print errors alone."""
    threads: int | None = None
    """Threads that compute on the CPU; by default one for each core."""
    modules: Modules = ()
    """Your own code that the run needs, in place of what it names."""
    wandb_project: str | None = None
    """Log to this Weights & Biases project, in place of the one that the run names."""
    trust: bool = False
    """Import whatever code the run names, and upload to the project that it names."""
    ranks: RankArguments = dataclasses.field(default_factory=RankArguments)
    """Many processes, of any number."""


@command(
    "ENV_ID: train an agent on a Gymnasium environment",
    "ENV --compiled: the same in one JAX program; many seeds at once",
    "--resume DIR: continue a run, bit for bit",
    writes=True,
)
def _train(arguments: list[str]) -> int:
    # From the start, while modules are imported, too. But processes that wait for
    # others to come are ended as usual.
    alone = "--distributed" not in arguments
    resume = any(argument.partition("=")[0] == "--resume" for argument in arguments)
    with stop_signals() if alone else contextlib.nullcontext() as asked:
        status = _resume(_parse_resume(arguments)) if resume else _start(arguments)
        return status or (asked.status if asked else 0)


def _parse_resume(arguments: list[str]) -> ResumeArguments:
    try:
        return _parse(ResumeArguments, arguments, "train --resume")
    except ValueError as error:
        raise ValueError(
            f"{error} --resume takes --total-steps, --module, --wandb-project, --trust "
            "and what many processes need. Other settings, from the weights of this "
            "run, are those of a new one: trpo train --from RUN"
        ) from error


def _start(arguments: list[str]) -> int:
    from trpo.runs.directory import directory_of
    from trpo.runs.members import parse_sweep
    from trpo.runs.train import train_run

    # Twice: the first pass finds the environment, whose preset the second starts
    # from, so that `--help` and what is left out show the preset's values.
    asked = [a for a in arguments if a not in ("-h", "--help")]
    base = _base_of(arguments)
    # Of a run that may be a stranger's, no code is taken as typed.
    default = base and TrainArguments(_as(TypedConfig, base, modules=()))
    first = _parse(TrainArguments, asked or arguments, "train", default=default)
    named = ("env_id", *NAMES_OF_CODE)
    both = [(getattr(first.config, n), getattr(base, n, None)) for n in named]
    typed = [own for own, theirs in both if own != theirs]
    modules = typed_modules(first.config.modules, typed)
    if base is not None:
        place = str(first.start_from or first.settings)
        modules = admitted(base, modules, False, place).modules
    import_modules(modules)
    start = _start_of(first, base)
    default = TrainArguments(_as(TypedConfig, start), first.preset)
    parsed = _parse(TrainArguments, arguments, "train", default=default)
    config = _as(TrainConfig, parsed.config, modules=modules, env_id=start.env_id)
    console = silent() if parsed.quiet else None
    if parsed.start_from and (parsed.compiled or parsed.ranks.distributed):
        return _fail("expected --from without --compiled and --distributed, got both.")
    prepare_frameworks(config.agent.dtype, config.deterministic, parsed.threads)
    if parsed.compiled:
        from trpo.runs.compiled import train_compiled_run

        sweep = parse_sweep(parsed.sweep)
        if parsed.ranks.distributed:
            return _fail("expected one of --compiled and --distributed, got both.")
        with directory_of(parsed.run_dir, config, "-compiled") as run_dir:
            train_compiled_run(
                config, run_dir, num_seeds=parsed.num_seeds, sweep=sweep,
                console=console,
            )  # fmt: skip
    elif parsed.num_seeds != 1 or parsed.sweep:
        return _fail(
            "expected --compiled with --num-seeds and --sweep, which train many "
            "members in one program; without it, start a run for each."
        )
    elif parsed.ranks.distributed:
        from trpo.runs.distributed import train_distributed

        return train_distributed(config, parsed.run_dir, parsed.ranks)
    else:
        with directory_of(parsed.run_dir, config) as run_dir:
            train_run(config, run_dir, start_from=parsed.start_from, console=console)
    return 0


def _base_of(arguments: list[str]) -> TrainConfig | None:
    """Settings to start from that --from or --config names, if one does.

    Raises:
        ValueError: they are none.
        OSError: there is no such file.
    """
    from trpo.runs.directory import RunDirectory, config_in

    words = [part for word in arguments for part in word.split("=", 1)]
    named = [v for o, v in itertools.pairwise(words) if o in ("--from", "--config")]
    if not named:
        return None
    starts = [name for name in ("--preset", "--from", "--config") if name in words]
    if len(starts) > 1:
        raise ValueError(f"expected one of {' and '.join(starts)}, got both.")
    path = Path(named[0])
    if path.is_dir() or "--from" in words:
        config = RunDirectory(path).shown_config()
    else:
        with Folder(path.parent) as folder:
            config = config_in(folder, path.name)
    # A new run uploads nowhere unless it is asked to.
    callbacks = dataclasses.replace(config.callbacks, wandb_project=None)
    return dataclasses.replace(config, callbacks=callbacks)


def _start_of(first: TrainArguments, base: TrainConfig | None) -> TrainConfig:
    """Settings that hold where none are typed: of a preset, or another run's."""
    from trpo.config.presets import preset_config, versioned

    typed = first.config.env_id
    if (env_id := versioned(typed)) != typed:
        Terminal(stderr=True).say(f"{typed}: the newest version is {env_id}")
    if base is None:
        return preset_config(env_id, first.preset)
    return dataclasses.replace(base, env_id=env_id)


def _resume(parsed: ResumeArguments) -> int:
    from trpo.runs.compiled import is_compiled_run, train_compiled_run
    from trpo.runs.train import resumed_config, train_run

    modules = typed_modules(parsed.modules, [])
    config = resumed_config(
        parsed.resume, parsed.total_steps, modules, parsed.trust, parsed.wandb_project
    )
    prepare_frameworks(config.agent.dtype, config.deterministic, parsed.threads)
    if parsed.ranks.distributed:
        from trpo.runs.distributed import train_distributed

        return train_distributed(config, parsed.resume, parsed.ranks, resume=True)
    train = train_compiled_run if is_compiled_run(parsed.resume) else train_run
    console = silent() if parsed.quiet else None
    train(config, parsed.resume, resume=True, console=console)
    return 0


@command(
    "ENV_ID …: environments x hyperparameters x seeds, a process each", writes=True
)
def _sweep(arguments: list[str]) -> int:
    from trpo.cli.sweep_command import SweepArguments, sweep

    parsed = _parse(SweepArguments, arguments, "sweep")
    with stop_signals("stopping: each run saves and ends"):
        return sweep(parsed)


@command("ENV_ID: search for an environment's settings, with Optuna", writes=True)
def _tune(arguments: list[str]) -> int:
    from trpo.cli.sweep_command import TuneArguments, tune

    parsed = _parse(TuneArguments, arguments, "tune")
    with stop_signals("stopping: each run saves and ends"):
        return tune(parsed)


@dataclasses.dataclass
class EvaluateArguments:
    """Score the newest checkpoint of a run on whole episodes, by raw returns."""

    run_dir: tyro.conf.Positional[Path]
    """Directory that `trpo train` wrote."""
    episodes: int = 20
    """Number of episodes."""
    checkpoint: int | None = None
    """Environment step of the checkpoint; by default the newest there is."""
    render: bool = False
    """Show the episodes in a window, one after the other."""
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
    threads: int | None = None
    """Threads that compute on the CPU; by default one for each core."""
    seed: int | None = None
    """Seed of the episodes; by default the run's."""
    stochastic: bool = False
    """Sample actions instead of taking the policy's most likely ones."""
    video: Path | None = None
    """Record one episode as MP4 into this directory."""
    json: bool = False
    """Print the result as JSON instead."""


@command("RUN_DIR: score a trained agent on whole episodes")
def _evaluate(parsed: EvaluateArguments) -> int:
    from trpo.runs.directory import RunDirectory
    from trpo.runs.evaluate import describe, evaluate_run, evaluation_json

    require_count("episodes", parsed.episodes, maximum=MOST_EPISODES)
    if parsed.eval_max_steps is not None:
        require_count("eval_max_steps", parsed.eval_max_steps, 0)
    with warnings.catch_warnings(action="ignore"):  # Said once, as it is loaded.
        config = RunDirectory(parsed.run_dir).shown_config(drop_removed=True)
    prepare_frameworks(config.agent.dtype, config.deterministic, parsed.threads)
    with stop_signals("stopping this evaluation") as asked:
        result, film, played = evaluate_run(
            parsed.run_dir, episodes=parsed.episodes, backend=parsed.backend,
            device=parsed.device, seed=parsed.seed, video=parsed.video,
            deterministic=not parsed.stochastic, render=parsed.render,
            modules=typed_modules(parsed.modules, []), trust=parsed.trust,
            max_steps=parsed.eval_max_steps, step=parsed.checkpoint,
        )  # fmt: skip
    terminal = Terminal()
    if parsed.json:
        terminal.say(json.dumps(played | json.loads(evaluation_json(result))))
    else:
        terminal.say(
            *([] if film is None else [f"video {film}"]),
            f"{played['env_id']}, {played['backend']}, trained for "
            f"{played['step']:,} steps:",
            describe(result),
        )
    return asked.status


@dataclasses.dataclass
class PlotArguments:
    """Draw returns, trust region, solver, critic and time of runs; compare several.

    Writes diagnostics.png, and diagnostics.html, one file that needs no network.
    """

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories that `trpo train` or `trpo sweep` wrote; of many members, all."""
    out: Path | None = None
    """Directory to write to; by default that of a single run, else this one."""


@command("RUN_DIR …: draw what happened in one run, or several compared")
def _plot(parsed: PlotArguments) -> int:
    from trpo.runs.curves_page import write_diagnostics

    Terminal().say(*map(str, write_diagnostics(parsed.run_dirs, parsed.out)))
    return 0


@dataclasses.dataclass
class PresetsArguments:
    """List presets, or show the values of one and the reason of each."""

    name: tyro.conf.Positional[str | None] = None
    """A preset's name, or an environment's id."""


@command("[NAME]: list presets, or show one's values and their reasons")
def _presets(parsed: PresetsArguments) -> int:
    from trpo.cli.presets_table import show_presets

    show_presets(Terminal(), parsed.name)
    return 0


@dataclasses.dataclass
class SpacesArguments:
    """List the spaces and policies that there are, here and in other libraries."""


@command(": which spaces are supported, here and by other libraries")
def _spaces(_: SpacesArguments) -> int:
    from trpo.cli.spaces_table import show

    show(Terminal())
    return 0


@dataclasses.dataclass
class ParityArguments:
    """Prove that the two backends are equal, and each right, on this machine.

    With --pair: prove that a PyTorch function and a JAX function of yours are equal.
    """

    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
    """Devices to compare on; one that is absent is reported as not run."""
    quick: bool = False
    """A selection of cases, the default."""
    full: bool = False
    """Every case."""
    out: Path = Path("runs/parity")
    """Directory for the certificate."""
    pair: str | None = None
    """Your own two functions: "module:name" of a parity_kit.Pair."""
    policy_network_pair: str | None = None
    """Your own policy networks in both backends' updates: "module:name" of a Pair."""


@command(": prove on this machine that the two backends are equal", writes=True)
def _parity(parsed: ParityArguments) -> int:
    asked = {
        "--quick": parsed.quick, "--full": parsed.full, "--pair": parsed.pair,
        "--policy-network-pair": parsed.policy_network_pair,
    }  # fmt: skip
    given = [name for name, value in asked.items() if value]
    if len(given) > 1:
        return _fail(f"expected one of {', '.join(asked)}, got {' and '.join(given)}.")
    # Said now, and not after all has been compared.
    there = next(p for p in (parsed.out, *parsed.out.parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        error.filename = str(parsed.out)
        raise
    if parsed.pair is not None:
        kit = importlib.import_module("parity_kit.command")
        return kit.run(
            kit.Arguments(parsed.pair, devices=parsed.devices, out=parsed.out)
        )
    if parsed.policy_network_pair is not None:
        networks = importlib.import_module("parity_tests.bridges.user_networks.pair")
        return networks.run(parsed.policy_network_pair, parsed.devices, parsed.out)
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    certificate = importlib.import_module("parity_tests.certificate.run")
    mode = "full" if parsed.full else "quick"
    return certificate.run(devices=parsed.devices, mode=mode, out=parsed.out)


@dataclasses.dataclass
class DoctorArguments:
    """Check frameworks, devices and precision, and say what to do."""

    env_id: tyro.conf.Positional[str | None] = None
    """Environment id: instead, time its training here with each kind of vector."""
    backend: Literal["torch", "jax"] = "torch"
    """Framework to train it with."""
    modules: Modules = ()
    """Modules to import first, see `trpo train`."""


@command("[ENV_ID]: check frameworks, devices and precision, or an environment's pace")
def _doctor(parsed: DoctorArguments) -> int:
    if parsed.env_id is None:
        from trpo.cli.doctor import main as doctor

        return doctor()
    from trpo.cli.pace import report

    import_modules(typed_modules(parsed.modules, [parsed.env_id]))
    prepare_frameworks("float32", deterministic=False)
    report(parsed.env_id, parsed.backend)
    return 0
