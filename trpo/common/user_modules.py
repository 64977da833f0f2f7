"""A user's own code: modules named by `--module` or `modules=`, and nothing else.

A run directory may be a stranger's, and so may the current directory. What is imported
is what the user has named for this command; the names that a run's configuration holds
are imported only if the user says so, once for each command.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from trpo.common.files import absolute
from trpo.common.validation import shown


MOST_MODULES, LONGEST_NAME = 100, 4096


_Config = TypeVar("_Config", bound=Any)


class UserModuleError(ValueError):
    """A module that the user has named can't be imported."""


class UntrustedError(ValueError):
    """A run asks for what the user has not asked for.

    Args:
        place: The run directory.
        names: What it names.
    """

    option: ClassVar[str]
    """Asks for it on the command line."""
    text: ClassVar[str]
    """The message, of `place`, `names` and `how` to ask for it."""

    def __init__(self, place: str, names: Sequence[str]) -> None:
        super().__init__(place, names)
        self.place, self.names = place, tuple(names)

    def __str__(self) -> str:
        return self.told(f"{self.in_python()}, or trust=True.")

    def told(self, how: str) -> str:
        """The message that ends with what to do."""
        names = ", ".join(self.names)
        return self.text.format(place=self.place, names=names, how=how)

    def in_python(self) -> str:
        """The argument of a function that asks for it."""
        return f"modules={list(self.names)}"

    def typed(self, arguments: list[str]) -> list[str]:
        """The same command, which asks for it."""
        option = self.option
        command = arguments if option in arguments else [*arguments, option]
        behind = command.index(option) + 1
        return [*command[:behind], *self.names, *command[behind:]]


class UntrustedModuleError(UntrustedError):
    """A run names code that the user has not named."""

    option = "--module"
    text = (
        "{place}: expected code that you have named, got a run that names {names} "
        "itself. If you trust it, have it imported: {how}"
    )


class UntrustedProjectError(UntrustedError):
    """A run would upload to a Weights & Biases project that the user has not named."""

    option = "--wandb-project"
    text = (
        "{place}: expected a Weights & Biases project that you have named, got a run "
        "that names {names!r} itself. If you want your login to upload there: {how}"
    )

    def in_python(self) -> str:
        """See `UntrustedError`."""
        return f"wandb_project={self.names[0]!r}"


def module_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as they are kept: dotted ones, and absolute paths.

    Raises:
        ValueError: one is neither.
    """
    if not isinstance(names, list | tuple) or len(names) > MOST_MODULES:
        raise ValueError(
            f"`modules`: expected a list of at most {MOST_MODULES} names, "
            f"got {shown(names)}."
        )
    for name in names:
        ok = isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME
        if not (ok and (_is_path(name) or _is_dotted(name))):
            raise ValueError(
                "`modules`: expected dotted names of modules, or paths of .py files or "
                f"packages, got {shown(name)}."
            )
    return tuple(os.path.abspath(n) if _is_path(n) else n for n in names)


def typed_modules(names: Sequence[str], code: Sequence[str | None]) -> tuple[str, ...]:
    """Modules that a user has named on the command line, or by `module:name`.

    A name that Python doesn't find may be that of a file in the current directory.

    Raises:
        ValueError: see `module_names`.
    """
    by_id = [
        module
        for module in (module_of(text or "") for text in code)
        if module is not None
    ]
    files = [path for name in by_id if (path := beside(name)) != name]
    return tuple(dict.fromkeys([*map(beside, module_names(names)), *files]))


def import_modules(names: Sequence[str]) -> None:
    """Import what the user has named; a path's folder goes to the end of `sys.path`.

    Raises:
        UserModuleError: there is no such module, another one has its name, or it
            failed.
    """
    for name in names:
        folder, dotted = _located(name)
        if folder is not None and folder not in sys.path:
            sys.path.append(folder)
        importlib.invalidate_caches()  # The file may be a second old.
        try:
            spec = _spec(dotted)
            if spec is not None and (folder is None or _is_of(spec.origin, name)):
                importlib.import_module(dotted)
                continue
        except (Exception, SystemExit) as error:
            path = f"PYTHONPATH={shlex.quote(folder)} " if folder else ""
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserModuleError(
                f"`module`: importing {name} failed{_place_of(error)}: {said}. For the "
                f"whole traceback: {path}python -c 'import {dotted}'"
            ) from error
        other = "no such module" if spec is None else f"one there, {spec.origin}"
        raise UserModuleError(
            "`module`: expected the dotted name of a module that Python finds, or the "
            f"path of a .py file or a package whose name no other module has, got "
            f"{name}: there is {other}."
        )


def admitted(
    config: _Config, modules: Sequence[str], trust: bool, place: str
) -> _Config:
    """A configuration that was read from a run, if what it would import is trusted.

    Args:
        config: As it was read.
        modules: What the user has named; imported in place of what the run names.
        trust: Import whatever the run names.
        place: The run directory.

    Raises:
        UntrustedModuleError: it names more, of what this process has not imported yet.
        ValueError: `modules` are no names.
    """
    named = module_names(modules)
    if named:
        config = dataclasses.replace(config, modules=named)
    needed = needed_modules(config)
    strange = [n for n in needed if n not in named and not _is_imported(n)]
    # Of networks a function is called, also of what is imported already.
    for text in (config.policy_network, config.value_network):
        module = module_of(text or "") or ""
        of_it = [n for n in needed if f"{module}.".startswith(f"{_located(n)[1]}.")]
        strange += [n for n in of_it if n not in (*named, *strange)]
    if strange and not trust:
        raise UntrustedModuleError(place, strange)
    return config


def with_project(
    config: _Config, project: str | None, trust: bool, place: str
) -> _Config:
    """A configuration that was read from a run, to train on with the user's project.

    Args:
        config: As it was read.
        project: That the user has named; in place of the run's.
        trust: Upload wherever the run says.
        place: The run directory.

    Raises:
        UntrustedProjectError: it would upload to another's.
    """
    if project is not None:
        callbacks = dataclasses.replace(config.callbacks, wandb_project=project)
        return dataclasses.replace(config, callbacks=callbacks)
    if (named := config.callbacks.wandb_project) is not None and not trust:
        raise UntrustedProjectError(place, [named])
    return config


def needed_modules(config: Any) -> tuple[str, ...]:
    """Modules that the user has to name to load a run: its own, and that of its id.

    Those of its wrapper and networks, too.
    """
    names = config.modules
    for text in (config.env_id, config.wrapper_class, config.policy_network,
                 config.value_network):  # fmt: skip
        module = module_of(text or "")
        known = [_located(name)[1] for name in names]
        if text in (config.env_id, config.wrapper_class):
            known.append("gymnasium")
        if module is not None and not any(
            f"{module}.".startswith(f"{name}.") for name in known
        ):
            names = (*names, module)
    return names


def module_of(env_id: str) -> str | None:
    """The module that registers an environment, of an id `module:Id`."""
    module, colon, _ = env_id.partition(":")
    return module if colon else None


def _is_path(name: str) -> bool:
    return os.sep in name or name.endswith(".py")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _located(name: str) -> tuple[str | None, str]:
    """The folder that has to be on `sys.path`, if any, and the module's dotted name."""
    if not _is_path(name):
        return None, name
    folder, last = os.path.split(os.path.abspath(name).removesuffix("/__init__.py"))
    dotted = last.removesuffix(".py")
    # A file of a package is imported as such: it may import its neighbours.
    while folder != os.sep and os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        dotted = f"{package}.{dotted}"
    return folder, dotted


def _spec(dotted: str) -> ModuleSpec | None:
    """Where Python finds a module; imports the packages that it lies in."""
    try:
        return importlib.util.find_spec(dotted)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{dotted}.".startswith(f"{error.name}."):
            return None
        raise


def _place_of(error: BaseException) -> str:
    """File and line of the user's code at which an import has failed."""
    importing = (__file__, "<frozen ", os.path.dirname(importlib.__file__))
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(importing)
    ]
    own = os.path.dirname(theirs[0].filename) if theirs else ""
    # Not where a library has failed that they called.
    places = [frame for frame in theirs if frame.filename.startswith(own)]
    return f" at {places[-1].filename}, line {places[-1].lineno}" if places else ""


def _is_of(origin: str | None, path: str) -> bool:
    """Whether a module's file is the one that was named."""
    init = os.path.join(path, "__init__.py")
    named = init if os.path.isfile(init) else path
    return origin is not None and os.path.realpath(origin) == os.path.realpath(named)


def _is_imported(name: str) -> bool:
    """Whether importing it would execute nothing."""
    folder, dotted = _located(name)
    module = sys.modules.get(dotted)
    return module is not None and (
        folder is None or _is_of(getattr(module, "__file__", None), name)
    )


def beside(name: str) -> str:
    """The path of a module of the current directory that Python finds nowhere else."""
    if _is_path(name) or importlib.util.find_spec(name.partition(".")[0]) is not None:
        return name
    start = os.path.abspath(name.replace(".", os.sep))
    for path in (f"{start}.py", os.path.join(start, "__init__.py")):
        if os.path.isfile(path) and _located(path)[1] == name:
            return path
    return name


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Have Python that is started meanwhile leave the current directory out."""
    before = os.environ.get("PYTHONSAFEPATH", "")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ["PYTHONSAFEPATH"] = before  # Empty is as good as none.


def import_matplotlib() -> None:
    """Import it without `./matplotlibrc`, which it takes before the user's own.

    That file may be a pipe that has no end, or have LaTeX run for every text.
    """
    if "matplotlib" in sys.modules:
        return
    exists = os.path.exists
    os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
    try:
        importlib.import_module("matplotlib")
    finally:
        os.path.exists = exists


def import_moviepy() -> None:
    """Import it without `.env`, which it would load into this process's environment.

    It takes one of any folder above its own, such as that of the virtual environment,
    or the current one; it may name the program that writes films.

    Raises:
        ImportError: it is not installed.
    """
    if sys.modules.get("moviepy") is not None:
        return
    before = sys.modules.get("dotenv")
    sys.modules["dotenv"] = None  # pyright: ignore[reportArgumentType]
    try:
        importlib.import_module("moviepy.config")
    finally:
        del sys.modules["dotenv"]
        if before is not None:
            sys.modules["dotenv"] = before


def import_wandb() -> ModuleType:
    """Import it without `./wandb/settings`, which may name another server.

    That gets the user's key; the user's own settings, in the home folder and in
    variables, hold.

    Raises:
        ImportError: it is not installed.
    """
    wandb: Any = importlib.import_module("wandb")
    getcwd = os.getcwd
    with tempfile.TemporaryDirectory() as empty:
        os.getcwd = lambda: empty
        try:
            wandb.setup()  # Once in a process: it reads them as it begins.
        finally:
            os.getcwd = getcwd
    return wandb


START = """\
import importlib, json, sys
sys.path += [path for path in json.loads(sys.argv.pop(1)) if path not in sys.path]
importlib.import_module(sys.argv.pop(1)).main()
"""


def python_command(module: str, *arguments: str) -> list[str]:
    """A command that calls `main` of a module of this package in a new Python.

    Its `sys.path` ends with what only this process has; the current directory is not on
    it, unless the user has put it on this process's.
    """
    paths = [path or str(absolute("").absolute()) for path in sys.path]
    return [sys.executable, "-P", "-c", START, json.dumps(paths), module, *arguments]
