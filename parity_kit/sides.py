"""Both sides of a pair as the parent sees them: arrays under PyTorch's names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity_kit import arrays
from parity_kit.pair import INFER, Pair
from parity_kit.processes import Key, Processes
from parity_kit.results import cotangent
from parity_kit.tolerances import group_of


Arrays = dict[str, np.ndarray]
# Stages whose arrays bear the names of weights.
AT_ONCE = ("outputs", "loss", "gradient")
OF_WEIGHTS = ("gradient", "optimizer", "state")


class Run(NamedTuple):
    """What one side gave for one seed.

    Attributes:
        arrays: by PyTorch's names.
        facts: see `results.Results.facts`.
    """

    arrays: Arrays
    facts: dict[str, Any]


class Problem(NamedTuple):
    """One seed's inputs and weights, by PyTorch's names.

    Attributes:
        seed: the seed.
        inputs: by position.
        weights: those that the map, or the pair, names.
    """

    seed: int
    inputs: tuple[np.ndarray, ...]
    weights: Arrays

    @property
    def is_big(self) -> bool:
        """Whether its runs take seconds, so that fewer of them have to do."""
        return sum(array.size for array in self.weights.values()) > BIG


BIG = 200_000


class Live:
    """A side that runs in its processes."""

    def __init__(
        self, framework: str, pair: Pair, processes: Processes, device: str = "cpu"
    ) -> None:
        self.framework, self.pair, self.processes = framework, pair, processes
        self.device = device
        self.mapping: Mapping[str, Any] = {}
        self._loaded: dict[Key, dict[str, Any]] = {}

    def key(self, dtype: str) -> Key:
        """Its process of a dtype."""
        return self.framework, dtype, self.device

    def load(self, dtype: str, reference: dict[str, Any]) -> dict[str, Any]:
        """Find the subject in its process; names and shapes of its weights."""
        key = self.key(dtype)
        if key not in self._loaded:
            file = self.processes.file(_numbered(self.pair.arrays(0)))
            parts = {k: v for k, v in reference.items() if k.startswith(self.framework)}
            self._loaded[key] = self.processes.ask(
                key, "load", parts=parts, inputs=file
            )
        return self._loaded[key]

    def initial(self, seed: int) -> Arrays:
        """A module's own first weights, under its own names."""
        out = self.processes.file()
        self.processes.ask(self.key("float64"), "initial", seed=seed, out=out)
        found = arrays.load(out)
        return {
            n: a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a
            for n, a in found.items()
        }

    def request(self, problem: Problem, steps: int | None = None) -> dict[str, Any]:
        """What every request about a problem's run has."""
        names = self.own_names(problem.weights)
        vectors = {}
        if "hessian" in self.pair.products and problem.weights:
            vectors = self.own_names(
                {n: cotangent(n, a.shape) for n, a in problem.weights.items()}
            )
        return {
            "inputs": self.processes.file(_numbered(problem.inputs)),
            "weights": self.processes.file(names),
            "steps": self.pair.steps if steps is None else steps,
            "products": list(self.pair.products),
            "vectors": self.processes.file(vectors) if vectors else "",
        }

    def run(
        self,
        problem: Problem,
        dtype: str = "float64",
        modules: tuple[str, ...] = (),
        steps: int | None = None,
        twice: bool = False,
    ) -> Run:
        """Every stage on a problem."""
        out = self.processes.file()
        facts = self.processes.ask(
            self.key(dtype), "run", out=out, modules=list(modules), twice=twice,
            **self.request(problem, steps),
        )  # fmt: skip
        found = arrays.load(out)
        Path(out).unlink()
        ordered = {name: found[name] for name in facts.pop("names")}
        return Run(self.torch_names(ordered), facts)

    def ask(self, problem: Problem, do: str, **request: Any) -> dict[str, Any]:
        """A request to the float64 process; quantities under PyTorch's names."""
        given = self.request(problem) | request
        return self.processes.ask(self.key("float64"), do, **given)

    def numbers(self, problem: Problem, do: str, **request: Any) -> dict[str, float]:
        """A request that gives a number for each quantity: by PyTorch's names.

        Where one array of PyTorch's is several of JAX's it's their numbers' norm.
        """
        found = self.ask(problem, do, **request)
        if self.framework == "torch" or not self.mapping:
            return found
        from parity_kit.weights.transforms import parts_of

        result = {}
        for name, number in found.items():
            if name.partition("/")[0] not in OF_WEIGHTS:
                result[name] = number
        groups = {group_of(n) for n in found if n.partition("/")[0] in OF_WEIGHTS}
        for group in groups:
            for name, entry in self.mapping.items():
                targets = [str(t).partition("[")[0] for t, _ in parts_of(entry)]
                parts = [f"{group}/{target}" for target in targets]
                if all(part in found for part in parts):
                    norm = np.linalg.norm([found[part] for part in parts])
                    result[f"{group}/{name}"] = float(norm)
        return result

    def spread(
        self, problem: Problem, runs: int, unit: float, steps: int
    ) -> tuple[Run, dict[str, float], Arrays]:
        """The exact run, how far noise moves it, and where it moves whole numbers."""
        out, ties = self.processes.file(), self.processes.file()
        spreads = self.numbers(
            problem, "spread", runs=runs, unit=unit, out=out, ties=ties, steps=steps
        )
        exact = Run(self.torch_names(arrays.load(out)), {})
        return exact, spreads, arrays.load(ties)

    def own_names(self, weights: Arrays) -> Arrays:
        """Weights under this side's names, in its layout."""
        if self.framework == "torch" or not self.mapping:
            return weights
        from parity_kit.weights import to_jax

        return to_jax(weights, self.mapping)

    def torch_names(self, found: Arrays) -> Arrays:
        """A run's arrays under PyTorch's names, in its layout.

        Left out is what the map gives no partner.
        """
        if not self.mapping:
            return found
        own: Arrays = {}
        groups: dict[str, Arrays] = {}
        for name, array in found.items():
            if name.partition("/")[0] in OF_WEIGHTS:
                group = group_of(name)
                groups.setdefault(group, {})[name.removeprefix(group + "/")] = array
                own.setdefault(group, array)  # keeps its place in the order
            else:
                own[name] = array
        result: Arrays = {}
        for name, array in own.items():
            if name in groups:
                for inner, a in self._translated(groups[name]).items():
                    result[f"{name}/{inner}"] = a
            else:
                result[name] = array
        return result

    def names_of(self, found: Arrays) -> Arrays:
        """Outputs, loss and gradient of the other side under this side's names."""
        kept = {n: a for n, a in found.items() if n.partition("/")[0] in AT_ONCE}
        if self.framework == "torch" or not self.mapping:
            return kept
        result: Arrays = {}
        groups: dict[str, Arrays] = {}
        for name, array in kept.items():
            if name.startswith("gradient/"):
                group = group_of(name)
                groups.setdefault(group, {})[name.removeprefix(group + "/")] = array
            else:
                result[name] = array
        for group, inner in groups.items():
            named = self.own_names(inner)
            result |= {f"{group}/{name}": array for name, array in named.items()}
        return result

    def _translated(self, group: Arrays) -> Arrays:
        from parity_kit.weights.transforms import parts_of, to_torch

        kept = {
            name: entry
            for name, entry in self.mapping.items()
            if all(target is not None for target, _ in parts_of(entry))
        }
        if self.framework == "torch":
            return {name: group[name] for name in kept if name in group}
        return to_torch(group, kept)


class Stored:
    """A side whose results `record` wrote, by PyTorch's names.

    Raises:
        ValueError: the folder has no such results.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / RECORDED
        if not file.exists():
            raise ValueError(f"{folder}: expected a folder that `record` wrote.")
        self.folder = folder
        self.facts = json.loads(file.read_text())
        self.framework: str = self.facts["framework"]
        self.mapping: Mapping[str, Any] = {}

    @property
    def seeds(self) -> list[int]:
        """Those that it was recorded on."""
        return [int(seed) for seed in self.facts["runs"]]

    def load(self, dtype: str, reference: dict[str, Any]) -> dict[str, Any]:
        """Names and shapes of its weights."""
        return self.facts["described"]

    def initial(self, seed: int) -> Arrays:
        """Never asked: the recorded problems have the weights."""
        raise AssertionError

    def problem(self, seed: int) -> Problem:
        """The inputs and weights that it was recorded on."""
        found = arrays.load(self.folder / f"problem_{seed}.safetensors")
        inputs = _of_kind(found, "input ")
        ordered = tuple(inputs[str(i)] for i in range(len(inputs)))
        return Problem(seed, ordered, _of_kind(found, "weight "))

    def run(self, problem: Problem, dtype: str = "float64", twice: bool = False) -> Run:
        """What was recorded."""
        facts = self.facts["runs"][str(problem.seed)]
        found = arrays.load(self.folder / f"{dtype}_{problem.seed}.safetensors")
        return Run({n: found[n] for n in facts["names"] if n in found}, facts)


RECORDED = "recorded.json"


def write_recorded(
    folder: Path, facts: dict[str, Any], runs: Mapping[int, tuple[Problem, Run]]
) -> None:
    """Write one side's results for `Stored`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts["runs"] = {}
    for seed, (problem, run) in runs.items():
        write_problem(problem, folder / f"problem_{seed}.safetensors")
        arrays.save(run.arrays, folder / f"float64_{seed}.safetensors")
        facts["runs"][str(seed)] = {**run.facts, "names": list(run.arrays)}
    (folder / RECORDED).write_text(json.dumps(facts, indent=1) + "\n")


def _of_kind(found: Arrays, kind: str) -> Arrays:
    return {n.removeprefix(kind): a for n, a in found.items() if n.startswith(kind)}


def write_problem(problem: Problem, path: Path) -> None:
    """Inputs as `input 0`, weights as `weight NAME`."""
    inputs = {f"input {i}": a for i, a in enumerate(problem.inputs)}
    weights = {f"weight {n}": a for n, a in problem.weights.items()}
    arrays.save(inputs | weights, path)


def _numbered(inputs: tuple[np.ndarray, ...]) -> Arrays:
    return {str(i): a for i, a in enumerate(inputs)}


class Weights:
    """How the weights of both sides are named, and what they are on each seed."""

    def __init__(
        self, pair: Pair, sides: Mapping[str, Any], described: Mapping
    ) -> None:
        self.pair, self.sides = pair, sides
        self.described = described
        self.remarks: list[str] = []
        self.source = ""
        self.mapping = self._mapping()
        for side in sides.values():
            side.mapping = self.mapping

    def _mapping(self) -> Mapping[str, Any]:
        pair, described = self.pair, self.described
        modules = [n for n, found in described.items() if found["module"]]
        has = [
            n for n in modules if described[n]["parameters"] or described[n]["buffers"]
        ]
        if pair.gives_arrays:
            if has:
                raise ValueError(
                    f"`weights`: arrays go to functions, and `{has[0]}` is a module. "
                    "Give a map of names, or 'infer'."
                )
            return {}
        if pair.weights is None or (pair.weights != INFER and not pair.weights):
            needed = [n for n in modules if described[n]["parameters"]]
            if needed:
                raise ValueError(
                    f"`weights`: `{needed[0]}` has weights, "
                    f"{', '.join(list(described[needed[0]]['parameters'])[:4])}, ...: "
                    "give a map PyTorch's name -> JAX's, or 'infer'."
                )
            return {}
        if not has:
            raise ValueError(
                "`weights`: a map of names, but neither side is a module with weights; "
                "functions get arrays: a dict name -> NumPy array."
            )
        return self._of_names()

    def _of_names(self) -> Mapping[str, Any]:
        from parity_kit import weights as maps
        from parity_kit.weights.transforms import parts_of

        described = self.described
        shapes = {
            n: {**found["parameters"], **found["buffers"]}
            for n, found in described.items()
        }
        both = all(found["module"] for found in described.values())
        if self.pair.weights == INFER:
            if not both or len(described) < 2:
                raise ValueError(
                    "`weights`: 'infer' needs two modules, whose names and shapes it "
                    "reads; give a map of names."
                )
            needed = {n: self._weights_of(n) for n in shapes}
            mapping = maps.infer(needed["torch"], needed["jax"])
            self.source = maps.as_source(mapping)
            return mapping
        mapping = self._own_names(self.pair.weights, shapes.get("jax", {}))
        if both and len(described) == 2:
            targets = {t for e in mapping.values() for t, _ in parts_of(e) if t}
            used = {
                "torch": set(mapping),
                "jax": {t.partition("[")[0] for t in targets},
            }
            kept, left = {}, {}
            for name, all_shapes in shapes.items():
                parameters = described[name]["parameters"]
                kept[name] = {
                    n: tuple(s)
                    for n, s in all_shapes.items()
                    if n in parameters or n in used[name]
                }
                left[name] = [n for n in all_shapes if n not in kept[name]]
            maps.check(mapping, kept["torch"], kept["jax"])
            self._left_out(left)
        return mapping

    def _weights_of(self, name: str) -> dict[str, tuple[int, ...]]:
        from parity_kit.weights.transforms import UNMAPPED

        found = self.described[name]
        shapes = {**found["parameters"], **found["buffers"]}
        return {
            n: tuple(s)
            for n, s in shapes.items()
            if n.rpartition(".")[2] not in UNMAPPED
        }

    def _left_out(self, left: Mapping[str, list[str]]) -> None:
        from parity_kit.weights.transforms import UNMAPPED

        left = {
            name: [n for n in names if n.rpartition(".")[2] not in UNMAPPED]
            for name, names in left.items()
        }
        statistics = [n for n in left["torch"] if "running_" in n]
        if statistics and left["jax"]:
            raise ValueError(
                f"`weights`: {statistics[0]!r} of PyTorch has no entry, nor is "
                f"{left['jax'][0]!r} of JAX reached by one; buffers are state too."
            )
        self.remarks += [
            f"not compared, since the map has no entry: {name}'s {n}"
            for name, names in left.items()
            for n in names
        ]

    def _own_names(self, given: Mapping, jax_names: Mapping) -> Mapping[str, Any]:
        """The map with linen's collections and slashes as this side names them."""
        from parity_kit.weights.transforms import parts_of

        def own(target: str | None) -> str | None:
            if target is None or not jax_names or target.partition("[")[0] in jax_names:
                return target
            dotted = target.replace("/", ".").strip(".")
            for found in (
                dotted,
                dotted.removeprefix("params."),
                f"batch_stats.{dotted}",
            ):
                if found.partition("[")[0] in jax_names:
                    return found
            return target

        result = {}
        for name, entry in given.items():
            try:
                parts = [(own(target), how) for target, how in parts_of(entry)]
            except (TypeError, ValueError):
                raise ValueError(
                    f'`weights`: {name!r}: expected "jax name" or ("jax name", '
                    f'"layout"), got {entry!r}.'
                ) from None
            result[name] = parts if isinstance(entry, list) else parts[0]
        return result

    def problem(self, seed: int) -> Problem:
        """The inputs and weights of a seed."""
        from parity_kit.weights import to_jax, to_torch

        inputs = self.pair.arrays(seed)
        if self.pair.gives_arrays:
            return Problem(seed, inputs, self.pair.weight_arrays(seed))
        if not self.mapping:
            return Problem(seed, inputs, {})
        if self.described.get("torch", {}).get("module"):
            found = self.sides["torch"].initial(seed)
            found = {n: a for n, a in found.items() if n in self.mapping}
        else:
            found = to_torch(self.sides["jax"].initial(seed), self.mapping)
        found = varied(found, seed)
        # What JAX has no place for is zero in PyTorch.
        carried = to_torch(to_jax(found, self.mapping), self.mapping)
        return Problem(seed, inputs, {**found, **carried})


def varied(weights: Arrays, seed: int) -> Arrays:
    """From the second seed on, weights that are all one number are varied.

    A bias of zeros hides that it's left out, a scale of ones that it's forgotten.
    """
    if seed == 0:
        return weights
    rng = np.random.default_rng([seed, 7])
    result = {}
    for name, array in weights.items():
        constant = array.dtype.kind == "f" and array.size > 1 and np.ptp(array) == 0.0
        if constant:
            noise = rng.standard_normal(array.shape).clip(-2.0, 2.0)
            moved = array * (1.0 + 0.1 * noise) if array.flat[0] else 0.05 * noise
            array = moved.astype(np.float32).astype(np.float64)
        result[name] = array
    return result
