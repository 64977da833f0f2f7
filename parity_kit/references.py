"""Where a live object is found again by a process that does not have it.

A child process gets names, never objects: a module's name and file, and the path in
it. A script is run again as `__mp_main__`, as multiprocessing's spawn does.
"""

import dataclasses
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any


class ImportStoppedError(BaseException):
    """`prove` was reached while a module is only imported to find something in it."""


# True while a module runs only so that its names are there.
_finding = [False]


def stop_if_finding() -> None:
    """End a module's import here: what stands above is there, a proof isn't run twice.

    So a script needs no `if __name__ == "__main__"`.
    """
    if _finding[0]:
        raise ImportStoppedError


def of(part: Any, what: str, pair_reference: dict | None = None) -> dict[str, Any]:
    """A reference to a part of a pair, as plain JSON.

    Args:
        part: a function, class, instance, tuple of these, or "module:name".
        what: how messages call it.
        pair_reference: where the pair itself is found, if it is.

    Raises:
        ValueError: a new process can't find it; says what to do.
    """
    if isinstance(part, str):
        return _of_text(part, what)
    name = getattr(part, "__qualname__", None)
    if isinstance(name, str) and name.endswith("<lambda>"):
        raise ValueError(
            f"{what}: a lambda can't be found by the process that runs it. Write it "
            "with `def` in a file, by itself."
        )
    module = getattr(part, "__module__", None)
    if isinstance(name, str) and isinstance(module, str) and "<locals>" not in name:
        loaded = sys.modules.get(module)
        if loaded is not None and _walk(loaded, name, None) is part:
            return {**_module(module, what), "path": name}
    if pair_reference is not None:
        return {"pair": pair_reference, "field": what}
    if isinstance(part, tuple) and not hasattr(part, "_fields"):
        return {"tuple": [of(item, what) for item in part]}
    found = _global(part)
    if found is not None:
        return {**_module(found[0], what), "path": found[1]}
    raise ValueError(
        f"{what}: {_described(part)} can't be found by the process that runs it. Make "
        "it, or the Pair, a global of a module in a file; a function with `def`, "
        "outside other functions."
    )


def of_pair(pair: Any) -> dict[str, Any] | None:
    """A reference to a pair that is a module's global, or in a global list or dict."""
    found = _global(pair, pair.made[0])
    if found is None:
        return None
    module, path, *key = found
    made = list(pair.made)
    reference = {**_module(module, "pair"), "path": path, "made": made}
    return {**reference, "key": key[0]} if key else reference


def of_text(text: str) -> dict[str, Any]:
    """A reference from "module:name", whose module is imported here.

    Raises:
        ValueError: no such module or name, or the module's own code raised.
    """
    reference = _of_text(text, "pair")
    resolve(reference)
    return {**_module(reference["module"], "pair"), "path": reference["path"]}


def resolve(reference: dict[str, Any]) -> Any:
    """What a reference names.

    Raises:
        ValueError: it isn't there.
    """
    if "tuple" in reference:
        return tuple(resolve(item) for item in reference["tuple"])
    if "pair" in reference:
        field, _, index = reference["field"].partition("[")
        part = getattr(resolve_pair(reference["pair"]), field)
        return part[int(index.rstrip("]"))] if index else part
    module = load(reference)
    missing = object()
    found = _walk(module, reference["path"], missing)
    if found is missing:
        known = ", ".join(n for n in vars(module) if not n.startswith("_"))
        raise ValueError(
            f"{module.__name__}:{reference['path']}: the module has no such name; it "
            f"has {known or 'none'}."
        )
    return found


_pairs: dict[str, Any] = {}
# The script that was run again; `__mp_main__` may be there already, as another name of
# the process's own.
_mains: dict[str, types.ModuleType] = {}


def resolve_pair(reference: dict[str, Any]) -> Any:
    """The pair that a reference names; made once where a function makes it."""
    key = repr(sorted(reference.items(), key=str))
    if key not in _pairs:
        found = resolve({k: v for k, v in reference.items() if k not in CALLED})
        if "call" in reference:
            found = found(*reference["call"])
        found = found[reference["key"]] if "key" in reference else found
        if "made" in reference and list(found.made) != reference["made"]:
            raise ValueError(
                f"{reference['path']}: a new process that runs the module up to the "
                "proof finds another pair under this name. Give each pair a global "
                "name, or an entry of a global dict, of its own, before the proof."
            )
        _pairs[key] = found
    return _pairs[key]


CALLED = ("call", "key", "made")


def load(reference: dict[str, Any]) -> types.ModuleType:
    """Import a reference's module, up to a `prove` in it.

    Raises:
        ValueError: there is no such module, or its own code raised.
    """
    name, file = reference["module"], reference.get("file")
    if reference.get("main"):
        name = "__mp_main__"
    if name in sys.modules and not reference.get("main"):
        return sys.modules[name]
    if name in _mains:
        return _mains[name]
    spec = None if reference.get("main") else _spec(name)
    if file is not None and (spec is None or not _same_file(spec.origin, file)):
        spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(
            f"{name}: no such module in {', '.join(p or '.' for p in sys.path[:3])}, "
            "...; start in the folder that it lies in, or set PYTHONPATH."
        )
    return _execute(name, spec, reference)


def _execute(name: str, spec: Any, reference: dict[str, Any]) -> types.ModuleType:
    if not reference.get("file"):
        # One of an installed package, or found by its name alone.
        reference = {**reference, "file": spec.origin}
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if reference.get("main"):
        module.__package__ = reference.get("package") or ""
        sys.modules["__main__"] = _mains[name] = module
    before, _finding[0] = _finding[0], True
    try:
        spec.loader.exec_module(module)
    except ImportStoppedError:
        pass
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(
            f"{reference['file']}: importing it raised "
            f"{type(error).__name__}: {error}{line_of(error)}"
        ) from error
    finally:
        _finding[0] = before
    return module


def line_of(error: BaseException) -> str:
    """The last line of a file that is no installed package's: " (file, line 3)"."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        own = str(Path(__file__).parent)
        installed = "site-packages" in file or file.startswith(("<", own, sys.prefix))
        if not installed and "/lib/python" not in file:
            found = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def _same_file(one: str | None, other: str) -> bool:
    return one is not None and Path(one).resolve() == Path(other).resolve()


def _of_text(text: str, what: str) -> dict[str, Any]:
    module, colon, path = text.partition(":")
    if not colon or not module or not path or "/" in module or module.endswith(".py"):
        raise ValueError(
            f"{what}: expected 'module:name', such as 'my_module:pair', got {text!r}."
        )
    return {"module": module, "path": path}


def _walk(module: Any, path: str, missing: Any) -> Any:
    found = module
    for name in path.split("."):
        found = getattr(found, name, missing)
        if found is missing:
            return missing
    return found


def _module(name: str, what: str) -> dict[str, Any]:
    module = sys.modules[name]
    file = getattr(module, "__file__", None)
    if name not in ("__main__", "__mp_main__"):
        return {"module": name, "file": str(Path(file).resolve()) if file else None}
    if file is None or not Path(file).exists():
        raise ValueError(
            f"{what}: it was made in a notebook or at a prompt, where a new process "
            "can't find it. Put it in a file, and import it from there."
        )
    spec = getattr(module, "__spec__", None)
    return {
        "module": name, "file": str(Path(file).resolve()), "main": True,
        "package": spec.parent if spec is not None else None,
    }  # fmt: skip


def _global(thing: Any, first: str = "") -> tuple | None:
    """(module, name) of a global, or (module, name, key) of an item of one.

    Searched first is a module given; last the script, whose globals may be a loop's.
    """
    own = __name__.partition(".")[0]
    order = {first: 0, "__main__": 2}
    modules = sorted(sys.modules.items(), key=lambda item: order.get(item[0], 1))
    for module_name, module in modules:
        if module_name.partition(".")[0] == own or module_name == "__mp_main__":
            continue
        names = getattr(module, "__dict__", None)
        for name, value in list(names.items()) if isinstance(names, dict) else ():
            if value is thing:
                return module_name, name
            if type(value) in (list, tuple):
                keys = [i for i, item in enumerate(value) if item is thing]
            elif type(value) is dict and not name.startswith("__"):
                keys = [k for k, v in value.items() if v is thing]
                keys = [k for k in keys if isinstance(k, str | int)]
            else:
                continue
            if keys and dataclasses.is_dataclass(thing):
                return module_name, name, keys[0]
    return None


def _described(part: Any) -> str:
    name = getattr(part, "__qualname__", None)
    return name if isinstance(name, str) else f"an object of {type(part).__qualname__}"
