"""A framework's process: `python -m parity_kit.worker`, driven by its parent.

A request is a line of JSON on standard input, its answer one on the first standard
output; arrays lie in safetensors files beside. What the user's code prints goes to
standard error.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity_kit import arrays, references, rings
from parity_kit.measures import changed_by, differences, moved, spreads
from parity_kit.results import Results
from parity_kit.tolerances import UNSTABLE, scales


Arrays = dict[str, np.ndarray]


class Worker:
    """One side's answers. Every public method is a request of its name."""

    def __init__(self) -> None:
        self.framework = self.dtype = self.device = ""
        self.side: Any = None

    def start(
        self, framework: str, dtype: str, device: str, path: list[str], tf32: bool
    ) -> dict[str, Any]:
        """Import the framework and switch its precision; versions and devices."""
        self.framework, self.dtype, self.device = framework, dtype, device
        sys.path[:] = path
        try:
            importlib.import_module(framework)
        except (ImportError, OSError) as error:
            raise ValueError(
                f"`{framework}`: it isn't installed here, or can't be imported "
                f"({error}). `record` the other side here and `compare` where "
                f"{framework} is, or install both: pip install 'trpo[torch,jax]'."
            ) from error
        if framework == "torch":
            return self._start_torch(tf32)
        return self._start_jax(tf32)

    def _start_torch(self, tf32: bool) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        if self.dtype == "float64":
            importlib.import_module("parity_kit.torch_side").compute_in_float64()
        there = self.device == "cpu" or torch.cuda.is_available()
        return {"versions": {"torch": torch.__version__}, "there": there}

    def _start_jax(self, tf32: bool) -> dict[str, Any]:
        import jax

        jax.config.update("jax_enable_x64", self.dtype == "float64")
        if not tf32:
            jax.config.update("jax_default_matmul_precision", "highest")
        if self.dtype == "float64":
            importlib.import_module("parity_kit.jax_side").compute_in_float64()
        platforms = set()
        with contextlib.suppress(RuntimeError):
            platforms = {device.platform for device in jax.devices()}
        there = self.device == "cpu" or "gpu" in platforms
        found = {}
        for name in ("flax", "optax", "equinox"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        return {"versions": {"jax": jax.__version__, **found}, "there": there}

    def load(self, parts: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Find the subject, the loss and the optimiser; describe the weights."""
        name = self.framework
        if name == "jax":
            with contextlib.suppress(ImportError):
                import flax.linen
                import flax.nnx  # noqa: F401
        found = {
            key: references.resolve(reference)
            for key, reference in parts.items()
            if key.partition(" ")[0] == name
        }
        module = importlib.import_module(f"parity_kit.{name}_side")
        self.side = module.Side(
            found[name], found.get(f"{name} loss"), found.get(f"{name} optimizer"),
            self.dtype, self.device,
        )  # fmt: skip
        if name == "jax":
            self.side.linen_inputs = _tuple(arrays.load(inputs))
        return self.side.describe()

    def initial(self, seed: int, out: str) -> dict[str, Any]:
        """A module's own first weights."""
        arrays.save(self.side.initial(seed), out)
        return {}

    def audit(self, **given: Any) -> dict[str, Any]:
        """Facts about the subject's defaults, see `defaults`."""
        from parity_kit import defaults

        inputs, weights = self._given(given)
        call = self.side.caller(inputs, weights)
        facts = {"torch": defaults.torch_facts, "jax": defaults.jax_facts}
        try:
            found = facts[self.framework](self.side.example(), call)
        except Exception:
            # What the function raises by itself the run says; traced it may not run.
            found = facts[self.framework](self.side.example())
        # What this process switched on is no default of the user's.
        return json.loads(json.dumps(found).replace("float64", "float32"))

    def run(
        self, out: str, modules: list[str], twice: bool, **given: Any
    ) -> dict[str, Any]:
        """Every stage; run twice, names of what was different the second time."""
        first = self._run(given, modules=tuple(modules))
        found = first.all_arrays()
        arrays.save(found, out)
        # A key of JAX's gives the same numbers again: others show that some are drawn.
        self.side.other_keys = True
        again = self._run(given).all_arrays() if twice else {}
        self.side.other_keys = False
        other = [n for n in again if not _same(found.get(n), again[n])]
        return {**first.facts(), "moved": other, "names": list(found)}

    def condition(self, draws: int, **given: Any) -> dict[str, Any]:
        """Quantity -> condition number, by inputs and weights changed by one ulp."""
        exact = self._run(given, record=True).all_arrays()
        nearby = []
        for draw in range(draws):
            rng = np.random.default_rng([draw, 52])
            inputs, weights = self._given(given)
            inputs = tuple(changed_by(a, rng) for a in inputs)
            weights = {n: changed_by(a, rng) for n, a in weights.items()}
            nearby.append(self._call(given, inputs, weights).all_arrays())
        return differences(exact, nearby)

    def spread(
        self, runs: int, unit: float, out: str, ties: str, **given: Any
    ) -> dict[str, Any]:
        """Quantity -> how far noise of one unit roundoff moves it.

        Written to `out` is the run without noise; to `ties`, of its whole numbers,
        where noise of eight times that moves them.
        """
        exact = self._run(given, record=False).all_arrays()
        arrays.save(exact, out)
        noisy = (self._noisy(given, seed, unit) for seed in range(runs))
        found = spreads(exact, list(noisy))
        whole = {n: a for n, a in exact.items() if a.dtype.kind in "biu"}
        loose = [
            self._noisy(given, 99 + seed, UNSTABLE * unit)
            for seed in range(runs if whole else 0)
        ]
        tied = {n: moved(a, [run[n] for run in loose]) for n, a in whole.items()}
        arrays.save(tied, ties)
        return found

    def faults(
        self, count: int, against: str, conditions: dict[str, float], **given: Any
    ) -> dict[str, Any]:
        """Plant faults; of each what the other side's results show of it.

        Args:
            count: How many faults that change anything.
            against: The other side's results, under this side's names.
            conditions: Stage -> condition number.
            **given: The problem, see `run`.
        """
        from parity_kit.faults.fault import drawn

        wanted = arrays.load(against)
        exact = self._run(given, record=False).all_arrays()
        least = scales(wanted)
        try:
            places = self.side.places(*self._given(given))
        except Exception as error:
            text = f"the function can't be taken apart: {type(error).__name__}"
            raise ValueError(text) from error
        found: dict[str, Any] = {"planted": 0, "seen": 0, "unseen": [], "idle": 0}
        # Some change nothing: others are drawn for them.
        for fault in drawn(places, 3 * count):
            if found["planted"] == count:
                break
            try:
                with self.side.planted(fault):
                    got = self._run(given, record=False).all_arrays()
            except Exception:
                got = {}  # A fault that raises can't be overlooked.
            if got and all(_same(got.get(name), a) for name, a in exact.items()):
                found["idle"] += 1
                continue
            found["planted"] += 1
            if _is_seen(got, wanted, least, conditions):
                found["seen"] += 1
            else:
                found["unseen"].append(f"{fault.kind}: {fault.place}")
        return found

    def _noisy(self, given: Mapping[str, Any], seed: int, unit: float) -> Arrays:
        return self._run(given, record=False, noise=(seed, unit)).all_arrays()

    def _given(self, given: Mapping[str, Any]) -> tuple[tuple, Arrays]:
        return _tuple(arrays.load(given["inputs"])), arrays.load(given["weights"])

    def _run(self, given: Mapping[str, Any], **options: Any) -> Results:
        return self._call(given, *self._given(given), **options)

    def _call(
        self, given: Mapping[str, Any], inputs: tuple, weights: Arrays, **options: Any
    ) -> Results:
        if given.get("vectors"):
            self.side.vectors = arrays.load(given["vectors"])
        return self.side.run(
            inputs, weights, given["steps"], tuple(given["products"]), **options
        )


def _tuple(named: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(named[str(i)] for i in range(len(named)))


def _is_seen(
    got: Arrays, wanted: Arrays, least: Mapping[str, float], conditions: Mapping
) -> bool:
    for name, want in wanted.items():
        number = conditions.get(name.partition("/")[0], 1.0)
        if name not in got:
            return True
        if want.dtype.kind in "biu":
            row = rings.decision("", name, "", got[name], want)
        else:
            row = rings.identity(
                "", name, "", got[name], want, scale=least[name], condition=number
            )
        if not row.ok:
            return True
    return False


def _same(one: np.ndarray | None, other: np.ndarray) -> bool:
    if one is None or one.shape != other.shape:
        return False
    return np.array_equal(one, other, equal_nan=other.dtype.kind == "f")


def _answer(worker: Worker, line: str) -> dict[str, Any]:
    request = json.loads(line)
    try:
        method: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
        return {"answer": method(**request)}
    except ValueError as error:
        return {"misuse": str(error)}
    except Exception as error:
        trace = traceback.format_exc()
        sys.stderr.write(trace)
        text = f"{type(error).__name__}: {error}{references.line_of(error)}"
        return {"failed": " ".join(text.split())[:600]}


def main() -> None:
    """Answer requests until there are none."""
    # The first standard output is the parent's; the user's prints go elsewhere.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    requests = os.fdopen(os.dup(0))
    # Nor may the user's code read the requests.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [sys.argv[0]]
    worker = Worker()
    for line in requests:
        out.write(json.dumps(_answer(worker, line)) + "\n")
        out.flush()
    sys.stderr.flush()
    # Nothing is left to be put away, which takes the frameworks seconds.
    os._exit(0)


if __name__ == "__main__":
    # Under its own name, so that nothing of it is there twice.
    from parity_kit.worker import main as run

    run()
