"""A probe for what an environment keeps beyond its episode, which no checkpoint has.

A resumed run makes new environments and replays the actions of their open episodes.
What earlier episodes have left behind, such as a curriculum's level or a wrapper's
running statistics, is then as at the start. So a checkpoint has a short digest of each
value that the environments' layers hold; what the replay does not bring back is named.
"""

import collections
import hashlib
import random
import time
import types
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec


PROBED_ENVIRONMENTS = 8
"""Environments of a run that are looked at: their layers are the same in all."""
MOST_VALUES, MOST_PARTS, MOST_BYTES, DEEPEST = 200, 2_000, 2**18, 4
# Of Gymnasium's wrappers those that never change what a step returns.
ONLOOKERS = frozenset(
    (
        "PassiveEnvChecker", "OrderEnforcing", "RecordEpisodeStatistics", "RecordVideo",
        "HumanRendering", "RenderCollection",
    )
)  # fmt: skip
# What Gymnasium itself keeps in any layer; set as somebody first asks for it.
BASE = frozenset(("env", "spec", "_cached_spec", "metadata", "_metadata"))
DURATIONS = frozenset(("seconds", "duration", "durations", "elapsed", "fps"))
SCALARS = (bool, int, float, complex, str, bytes, type(None))
OPAQUE = (
    gymnasium.Env, gymnasium.Space, EnvSpec, type, types.ModuleType, types.FunctionType,
    types.MethodType,
)  # fmt: skip
# Of arrays on a device, and of what compiles.
FOREIGN = frozenset(("jax", "jaxlib", "torch", "flax"))
UNREAD = b"?"
CLOCKS = (time.time, time.monotonic, time.perf_counter)
_BORN = [clock() for clock in CLOCKS]


def lasting_values(env: gymnasium.Env) -> dict[str, str]:
    """Digests of what an environment's layers hold now, by "Class.attribute".

    Runs no code of theirs and changes nothing: it reads flags, numbers, text, arrays,
    generators' states, and lists, tuples, dictionaries, sets and objects of these. All
    else, what is too large, and the time of a clock, count as equal whatever they are.
    """
    values: dict[str, str] = {}
    seen = collections.Counter[str]()
    for layer in _layers(env):
        kind = type(layer)
        if kind.__module__.startswith("gymnasium.") and kind.__name__ in ONLOOKERS:
            continue
        seen[kind.__name__] += 1
        again = "" if seen[kind.__name__] == 1 else f"({seen[kind.__name__]})"
        for name, value in _fields(layer):
            if name not in BASE and len(values) < MOST_VALUES:
                values[f"{kind.__name__}{again}.{name}"] = _digest(name, value)
    return values


def not_restored(saved: object, replayed: Iterable[dict[str, str] | None]) -> list[str]:
    """Names of what differs from what was saved, in any environment.

    Args:
        saved: Of each environment what its checkpoint has; see
            `SeededEpisodes.lasting`. None in those of before there was a probe.
        replayed: What each of them holds now; None of those that can't be compared.
    """
    names: dict[str, None] = {}
    saved_values: list[object] = saved if isinstance(saved, list) else []
    for before, now in zip(saved_values, replayed, strict=False):
        if now is not None and isinstance(before, dict):
            names |= {n: None for n in before if now.get(n) != before[n]}
    return list(names)


def _layers(env: Any) -> Iterator[Any]:
    while env is not None:
        yield env
        inside = dict(_fields(env)).get("env")
        env = inside if issubclass(type(env), gymnasium.Wrapper) else None


def _fields(value: Any) -> list[tuple[str, Any]]:
    """Items of an object's `__dict__`; none if that can't be read."""
    try:
        fields = object.__getattribute__(value, "__dict__")
        return [(n, v) for n, v in list(fields.items()) if type(n) is str]
    except Exception:
        return []


def _digest(name: str, value: Any) -> str:
    if type(value) is float and not DURATIONS.isdisjoint(name.split("_")):
        return ""
    whole = hashlib.blake2b(digest_size=8)
    try:
        left = MOST_PARTS
        for part in _parts(value, 0):
            whole.update(part)
            left -= 1
            if left == 0:
                return ""
    except Exception:  # One of its own types' methods, or it changes as it is read.
        return ""
    return whole.hexdigest()


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    """A value as bytes that differ where it does, between what can be read."""
    kind = type(value)
    yield f"({kind.__name__}".encode()
    if kind in SCALARS:
        short = kind not in (str, bytes) or len(value) <= MOST_BYTES
        yield repr(value).encode() if short and not _is_clock(value) else UNREAD
    elif kind is np.ndarray or issubclass(kind, np.generic):
        readable = value.nbytes <= MOST_BYTES and not value.dtype.hasobject
        yield f"{value.dtype}{value.shape}".encode() if readable else UNREAD
        yield value.tobytes() if readable else b""
    elif depth == DEEPEST:
        yield UNREAD
    else:
        for part in _contents(value):
            yield from _parts(part, depth + 1)
    yield b")"


def _contents(value: Any) -> Iterable[Any]:
    """The parts of a container, of a generator of random numbers or of an object."""
    kind = type(value)
    if kind in (list, tuple, collections.deque):
        return value
    if kind in (dict, collections.OrderedDict, collections.defaultdict):
        return value.items()
    if kind in (set, frozenset):
        return sorted(value) if all(type(v) in SCALARS for v in value) else ()
    if kind is np.random.Generator:
        return value.bit_generator.state.items()
    if kind is np.random.RandomState:
        return value.get_state()
    if kind is random.Random:
        return value.getstate()
    foreign = kind.__module__.partition(".")[0] in FOREIGN
    return () if issubclass(kind, OPAQUE) or foreign else _fields(value)


def _is_clock(value: Any) -> bool:
    """Whether a number is a time since this process began, by any clock."""
    if type(value) not in (int, float):
        return False
    seconds = value / 1e9 if type(value) is int else value
    return any(
        born <= seconds <= clock() for born, clock in zip(_BORN, CLOCKS, strict=True)
    )
