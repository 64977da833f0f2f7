"""The `trpo` command: train, sweep, tune, evaluate, plot, parity, doctor and more."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from trpo.cli.arguments import (
    EvaluateArguments,
    ParityArguments,
    PlotArguments,
    PresetsArguments,
    ResumeArguments,
    TrainArguments,
    TypedConfig,
)
from trpo.common.framework_settings import prepare_frameworks, reserve_cpu_devices
from trpo.common.signals import stop_signals
from trpo.common.terminal import Terminal, safe_streams, word
from trpo.common.user_modules import (
    UntrustedError,
    import_modules,
    safe_path,
    typed_modules,
)
from trpo.common.validation import require_count
from trpo.config.choices import MOST_EPISODES
from trpo.environments.environment_worker import EnvironmentWorkerError


HELP = """\
usage: trpo COMMAND ...

Trust-region policy optimisation, the same agent in PyTorch and in JAX.

commands:
  train ENV_ID           train an agent on a Gymnasium environment
  train ENV --compiled   the same in one JAX program, --num-seeds N at once
  train --resume DIR     continue a run, bit for bit
  sweep ENV_ID …         environments x hyperparameters x seeds, a process each
  tune ENV_ID            search for an environment's settings, with Optuna
  evaluate RUN_DIR       score a trained agent on whole episodes
  plot RUN_DIR …         draw what happened in one run, or several compared
  presets [NAME]         list presets, or show one's values and their reasons
  spaces                 spaces and policies there are, here and in other libraries
  parity                 prove on this machine that the two backends are equal
  doctor                 check frameworks, devices and precision

`trpo COMMAND --help` lists a command's options. For example:
  trpo train Pendulum-v1 --backend jax --seed 0
"""
# Kind of error -> exit status of a user's mistake, which needs no traceback.
USER_ERROR = 2
# As of a process that a closed pipe ends; and of one that Ctrl-C does.
CLOSED_PIPE, INTERRUPTED = 141, 130
# What these have done is in files: it counts where nothing can be printed.
WRITING = {"train", "sweep", "tune", "parity"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _apart(sys.argv[1:] if argv is None else argv)
    with safe_path(), safe_streams() as out:
        status = _status(arguments)
        out.flush()
        if status or out.error is None or {*arguments[:1]} & WRITING:
            return status
        if isinstance(out.error, BrokenPipeError):
            return CLOSED_PIPE
        return _fail(f"standard output: {out.error}")


def _status(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "sweep": functools.partial(_many_runs, "sweep"),
        "tune": functools.partial(_many_runs, "tune"),
        "evaluate": _evaluate,
        "plot": _plot,
        "presets": _presets,
        "spaces": _spaces,
        "parity": _parity,
        "doctor": _doctor,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        Terminal().say(*HELP.splitlines())
        return 0 if arguments else USER_ERROR
    if arguments[0] not in commands:
        return _fail(f"expected one of {', '.join(commands)}, got {arguments[0]!r}.")
    if arguments.count("--module") > 1:
        return _fail("expected --module once, with all names behind it.")
    try:
        return commands[arguments[0]](arguments[1:])
    except UntrustedError as error:
        command = " ".join(map(word, error.typed(arguments)))
        return _fail(error.told(f"trpo {command} (or --trust, whatever it names)"))
    except (ValueError, ImportError, OSError, EnvironmentWorkerError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        Terminal(stderr=True).crash(error)
        return 1


def _apart(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the name in `--module=NAME` one of its own."""
    parts = [a.split("=", 1) if a.startswith("--module=") else [a] for a in arguments]
    return list(itertools.chain.from_iterable(parts))


def _fail(error: BaseException | str) -> int:
    Terminal(stderr=True).error(error)
    return USER_ERROR


def _parse(kind: Any, arguments: list[str], command: str, **options: Any) -> Any:
    parse = functools.partial(
        tyro.cli,
        kind,
        args=arguments,
        prog=f"trpo {command}",
        config=(tyro.conf.OmitArgPrefixes,),
        **options,
    )
    if all(map(str.isprintable, arguments)):
        return parse()
    said = io.StringIO()
    try:
        # It repeats a wrong argument as it is.
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return parse()
    except SystemExit:
        Terminal(stderr=True).say(*said.getvalue().splitlines())
        raise


def _train(arguments: list[str]) -> int:
    # From the start, while modules are imported, too. But processes that wait for
    # others to come are ended as usual.
    alone = "--distributed" not in arguments
    with stop_signals() if alone else contextlib.nullcontext():
        if any(argument.partition("=")[0] == "--resume" for argument in arguments):
            return _resume(_parse(ResumeArguments, arguments, "train"))
        return _start(arguments)


def _start(arguments: list[str]) -> int:
    from trpo.config.presets import preset_config
    from trpo.runs.directory import directory_of
    from trpo.runs.members import members_of, parse_sweep
    from trpo.runs.train import train_run

    # Twice: the first pass finds the environment, whose preset the second starts
    # from, so that `--help` and what is left out show the preset's values.
    asked = [a for a in arguments if a not in ("-h", "--help")]
    first = _parse(TrainArguments, asked or arguments, "train")
    modules = typed_modules(first.config.modules, [first.config.env_id])
    import_modules(modules)
    preset = first.preset
    start = TypedConfig.of(preset_config(first.config.env_id, preset))
    default = TrainArguments(start, preset)
    parsed = _parse(TrainArguments, arguments, "train", default=default)
    config = dataclasses.replace(parsed.config.plain, modules=modules)
    prepare_frameworks(config.agent.dtype, config.deterministic)
    if parsed.compiled:
        from trpo.runs.compiled import train_compiled

        sweep = parse_sweep(parsed.sweep)
        reserve_cpu_devices(len(members_of(config, parsed.num_seeds, sweep)))
        if parsed.ranks.distributed:
            return _fail("expected one of --compiled and --distributed, got both.")
        with directory_of(parsed.run_dir, config, "-compiled") as run_dir:
            train_compiled(config, run_dir, num_seeds=parsed.num_seeds, sweep=sweep)
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
            train_run(config, run_dir)
    return 0


def _resume(parsed: ResumeArguments) -> int:
    from trpo.runs.compiled import is_compiled_run, resume_compiled
    from trpo.runs.train import resumed_config, train_run

    if parsed.total_steps is not None:
        require_count("total_steps", parsed.total_steps)
    admission = {
        "modules": typed_modules(parsed.modules, []),
        "trust": parsed.trust,
        "wandb_project": parsed.wandb_project,
    }
    config = resumed_config(parsed.resume, parsed.total_steps, **admission)
    prepare_frameworks(config.agent.dtype, config.deterministic)
    if parsed.ranks.distributed:
        from trpo.runs.distributed import train_distributed

        return train_distributed(config, parsed.resume, parsed.ranks, resume=True)
    if is_compiled_run(parsed.resume):
        resume_compiled(parsed.resume, parsed.total_steps, **admission)
    else:
        train_run(config, parsed.resume, resume=True)
    return 0


def _many_runs(command: str, arguments: list[str]) -> int:
    from trpo.cli.sweep_command import COMMANDS

    kind, run = COMMANDS[command]
    parsed = _parse(kind, arguments, command)
    with stop_signals():
        return run(parsed)


def _evaluate(arguments: list[str]) -> int:
    from trpo.runs.directory import RunDirectory
    from trpo.runs.train import describe, evaluate_run, evaluation_json

    parsed = _parse(EvaluateArguments, arguments, "evaluate")
    require_count("episodes", parsed.episodes, maximum=MOST_EPISODES)
    if parsed.eval_max_steps is not None:
        require_count("eval_max_steps", parsed.eval_max_steps, 0)
    with warnings.catch_warnings(action="ignore"):  # Said once, as it is loaded.
        config = RunDirectory(parsed.run_dir).shown_config(drop_removed=True)
    prepare_frameworks(config.agent.dtype, config.deterministic)
    result, film = evaluate_run(
        parsed.run_dir,
        episodes=parsed.episodes,
        backend=parsed.backend,
        device=parsed.device,
        seed=parsed.seed,
        deterministic=not parsed.stochastic,
        video=parsed.video,
        modules=typed_modules(parsed.modules, []),
        trust=parsed.trust,
        max_steps=parsed.eval_max_steps,
    )
    terminal = Terminal()
    if film is not None and not parsed.json:
        terminal.say(f"video {film}")
    terminal.say(evaluation_json(result) if parsed.json else describe(result))
    return INTERRUPTED if result.interrupted else 0


def _plot(arguments: list[str]) -> int:
    from trpo.runs.curves_page import write_diagnostics

    parsed = _parse(PlotArguments, arguments, "plot")
    Terminal().say(*map(str, write_diagnostics(parsed.run_dirs, parsed.out)))
    return 0


def _presets(arguments: list[str]) -> int:
    from trpo.cli.presets_table import list_presets, show_preset

    name = _parse(PresetsArguments, arguments, "presets").name
    terminal = Terminal()
    if name is None:
        list_presets(terminal)
    else:
        show_preset(terminal, name)
    return 0


def _spaces(arguments: list[str]) -> int:
    if arguments:
        return _fail("`trpo spaces` takes no arguments.")
    from trpo.cli.spaces_table import show

    show(Terminal())
    return 0


def _parity(arguments: list[str]) -> int:
    parsed = _parse(ParityArguments, arguments, "parity")
    if parsed.quick and parsed.full:
        return _fail("expected one of --quick and --full, got both.")
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    import importlib

    certificate = importlib.import_module("parity_tests.certificate.run")
    mode = "full" if parsed.full else "quick"
    return certificate.run(devices=parsed.devices, mode=mode, out=parsed.out)


def _doctor(arguments: list[str]) -> int:
    if arguments:
        return _fail("`trpo doctor` takes no arguments.")
    from trpo.cli.doctor import main as doctor

    return doctor()
