"""Ids of environments: what is registered, by whom, and what is said of any other."""

import difflib
import functools
import importlib.metadata
import importlib.util
import re
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from trpo.common.user_modules import beside, import_modules, module_of


LIBRARIES = ("brax", "playground")
"""Of `brax/ant` and `playground/CartpoleBalance`, registered when asked for."""
MAX_EPISODE_STEPS = 1000
"""Both packages' own default."""
MOST_PACKAGES = 5
# What was there before any module of the user's: Gymnasium's, and of its plugins.
EARLIER = dict(gymnasium.registry)


class UnknownEnvironmentError(ValueError):
    """No environment has this id, or what it needs is not installed."""


def registered(env_id: str) -> EnvSpec | str:
    """The specification of an id; the id itself where Gymnasium has to look it up.

    Of `module:Id`, the module is imported, and must be the one that registers it.

    Raises:
        UnknownEnvironmentError: there is no such module, or it registers another id.
        UserModuleError: the module can't be imported.
    """
    register_physics(env_id)
    module, name = module_of(env_id), env_id.rpartition(":")[2]
    if module is not None:
        _import_registering(env_id, module)
    spec = gymnasium.registry.get(name)
    if module is not None and spec is not None and _is_anothers(spec, module):
        raise UnknownEnvironmentError(
            f"`env_id`: expected an environment that {module!r} registers, got "
            f"{env_id!r}: {name!r} is of {package_of(spec)!r}. Leave "
            f"'{module}:' out, or import the module too: --module {module}."
        )
    return name if spec is None else spec


def _import_registering(env_id: str, module: str) -> None:
    """Import the module of an id.

    Raises:
        UnknownEnvironmentError: there is none; an id may be a stranger's, so that no
            path is taken.
        UserModuleError: it can't be imported.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise UnknownEnvironmentError(
            f"`env_id`: expected the dotted name of a module before the colon, got "
            f"{module!r} in {env_id!r}."
        )
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        path = beside(module)
        raise UnknownEnvironmentError(
            f"`env_id`: {env_id!r} needs the module {module!r}, which Python doesn't "
            "find; install the package that registers this environment, or name its "
            f"file: --module {'PATH' if path == module else path}."
        )
    import_modules([module])


def _is_anothers(spec: EnvSpec, module: str) -> bool:
    """Whether it was registered before, and by another package."""
    was_there = EARLIER.get(spec.id) is spec
    return was_there and package_of(spec) != module.partition(".")[0]


def package_of(spec: EnvSpec) -> str:
    """The package whose function or class makes an environment."""
    creator: Any = spec.entry_point
    while isinstance(creator, functools.partial):
        creator = creator.func
    place = creator if isinstance(creator, str) else getattr(creator, "__module__", "")
    return re.split("[.:]", str(place))[0]


def register_physics(env_id: str) -> None:
    """Register the environment if its id is one of Brax or Playground."""
    library, _, name = env_id.partition("/")
    if library in LIBRARIES and name and env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point="trpo_jax.loop.physics_environments:_PhysicsEnv",
            max_episode_steps=MAX_EPISODE_STEPS,
            # The checker calls for arrays of NumPy.
            disable_env_checker=True,
            kwargs={"library": library, "name": name},
        )


def unknown(env_id: str, error: Exception) -> str:
    """What is said of an id that Gymnasium refuses."""
    said = " ".join(str(error).split()).rstrip(".")
    if env_id in gymnasium.registry:
        return f"`env_id`: {env_id!r} can't be made: {said}."
    known = list(gymnasium.registry)
    close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.5)
    lowered = {name.lower(): name for name in known}
    close += [
        lowered[name]
        for name in difflib.get_close_matches(env_id.lower(), lowered, n=3)
        if lowered[name] not in close
    ]
    hint = (
        f"Did you mean {', '.join(close)}?" if close else "No registered id is like it."
    )
    if packages := _packages_like(env_id):
        listed = " or ".join(f"{package}:{env_id}" for package in packages)
        hint += f" If an installed package registers it, name that first: {listed}."
    return (
        f"`env_id`: expected a registered Gymnasium environment, got {env_id!r} "
        f"({said}). {hint}"
    )


def _packages_like(env_id: str) -> list[str]:
    """Installed packages that use Gymnasium, those whose name is in the id first.

    None where it is the version, or a letter's case, that is wrong.
    """
    bare = {re.sub(r"-v\d+$", "", name).lower() for name in gymnasium.registry}
    if ":" in env_id or re.sub(r"-v\w*$", "", env_id).lower() in bare:
        return []
    modules: set[str] = set()
    for name, distributions in importlib.metadata.packages_distributions().items():
        if name.isidentifier() and not name.startswith("_"):
            modules |= {name} if any(map(_uses_gymnasium, distributions)) else set()
    words = [word for word in re.split(r"[\W_\d]+", env_id.lower()) if len(word) > 2]

    def likeness(module: str) -> float:
        alike = [
            difflib.SequenceMatcher(None, w, module.lower()).ratio() for w in words
        ]
        return max(alike, default=0.0) + any(w in module.lower() for w in words)

    ranked = sorted(modules, key=lambda module: (-likeness(module), module))
    alike = [module for module in ranked if likeness(module) >= 1.0]
    return (alike or ranked)[:MOST_PACKAGES]


def _uses_gymnasium(distribution: str) -> bool:
    if distribution == "trpo":
        return False  # What this project registers is in the registry.
    needs = importlib.metadata.requires(distribution) or []
    names = (re.match(r"[\w.-]+", need) for need in needs if "extra ==" not in need)
    return any(name is not None and name[0].lower() == "gymnasium" for name in names)
