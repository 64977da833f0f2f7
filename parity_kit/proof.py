"""The proof: a plan of runs, and what follows from their numbers."""

import functools
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parity_kit import precision, references, rings
from parity_kit.certificate import text
from parity_kit.certificate.record import Certificate
from parity_kit.pair import FRAMEWORKS, Pair
from parity_kit.processes import ProcessError, Processes
from parity_kit.sides import (
    Arrays,
    Live,
    Problem,
    Run,
    Stored,
    Weights,
    write_recorded,
)
from parity_kit.tolerances import (
    IDENTITY,
    MAX_CONDITION,
    MAX_TIE_SHARE,
    UNIT_ROUNDOFF_32,
    relative_error,
    scales,
)


DEVICES = ("cpu", "cuda")
DRAWS, BIG_DRAWS = 3, 1
# In a shorter precision: seeds, simulated runs of each, and optimiser steps.
NOISY_SEEDS, NOISY_RUNS, NOISY_STEPS = 3, 6, 3
BIG_RUNS = 4
Show = Callable[[str], None]


def prove(
    pair: Pair,
    seeds: int | Sequence[int] = 5,
    devices: Sequence[str] = ("cpu",),
    *,
    precisions: Sequence[str] = ("float32",),
    faults: int = 20,
    processes: Processes | None = None,
    show: Show | None = None,
    where: dict[str, Any] | None = None,
    name: str = "pair",
) -> Certificate:
    """Compare both sides of a pair on inputs of several seeds.

    A difference never raises: it is in the certificate.

    Args:
        pair: What is compared.
        seeds: How many seeds from 0 on, or which.
        devices: "cpu", "cuda" or both; one that is absent is reported as not run.
        precisions: Of "float32", "bfloat16" and, on a GPU, "tf32", those whose error
            is judged.
        faults: How many faults are planted, to see whether the proof sees them.
        processes: Framework processes to share with other proofs.
        show: Called with what is going on; by default a line in a terminal.
        where: Where the pair is found again, if the caller knows.
        name: The pair's in the certificate.

    Returns:
        The certificate.

    Raises:
        ValueError: the pair can't be run as it is given; says what to do.
    """
    references.stop_if_finding()
    if not isinstance(pair, Pair):
        raise ValueError(f"`pair`: expected a Pair, got a {type(pair).__qualname__}.")
    for side in FRAMEWORKS:
        if getattr(pair, side) is None:
            raise ValueError(
                f"`{side}`: the pair has no such side; `record` the other one and "
                "`compare` it where both packages' results meet."
            )
    numbers = _seeds(seeds)
    if unknown := sorted(set(devices) - set(DEVICES)) or not devices:
        raise ValueError(f"`devices`: expected of {DEVICES}, got {unknown!r}.")
    shorter = _precisions(precisions)
    reference = pair.reference(where)
    certificate, start = Certificate(name=name), time.perf_counter()
    certificate.facts = {"seeds": numbers, "processor": platform.machine()}
    with shared(processes) as processes, _terminal(show) as show:
        for device in devices:
            proof = Proof(pair, certificate, processes, device, numbers, show)
            proof.precisions = shorter
            proof.run(reference, faults)
    return _finished(certificate, start)


def record(
    pair: Pair,
    framework: str,
    folder: str | Path,
    seeds: int | Sequence[int] = 5,
    *,
    processes: Processes | None = None,
) -> Path:
    """Run one side where the other framework isn't installed, and store its results.

    They are safetensors and JSON, for `compare`.

    Args:
        pair: Its other side may be None.
        framework: "torch" or "jax": the side that runs here.
        folder: Where the results go.
        seeds: How many seeds from 0 on, or which.
        processes: Framework processes to share with other proofs.

    Raises:
        ValueError: the pair can't be run as it is given; says what to do.
    """
    references.stop_if_finding()
    if framework not in FRAMEWORKS or getattr(pair, framework) is None:
        raise ValueError(
            f"`framework`: expected a side that the pair has, got {framework!r}."
        )
    reference = pair.reference()
    with shared(processes) as processes:
        side = Live(framework, pair, processes)
        described = side.load("float64", reference)
        weights = Weights(pair, {framework: side}, {framework: described})
        runs = {}
        for seed in _seeds(seeds):
            problem = weights.problem(seed)
            runs[seed] = problem, side.run(problem, twice=True)
        facts = {
            "framework": framework,
            "described": described,
            "audit": side.ask(runs[seed][0], "audit"),
            "versions": processes.facts(side.key("float64"))["versions"],
        }
    write_recorded(Path(folder), facts, runs)
    return Path(folder)


def compare(
    pair: Pair,
    folder: str | Path,
    *,
    precisions: Sequence[str] = ("float32",),
    processes: Processes | None = None,
) -> Certificate:
    """Run the side that `record` did not, on what it recorded, and compare them.

    Args:
        pair: The same pair; its recorded side may be None.
        folder: What `record` wrote.
        precisions: As `prove`'s, of the side that runs here.
        processes: Framework processes to share with other proofs.

    Raises:
        ValueError: the pair can't be run as it is given; says what to do.
    """
    references.stop_if_finding()
    stored = Stored(Path(folder))
    other = next(name for name in FRAMEWORKS if name != stored.framework)
    if getattr(pair, other) is None:
        raise ValueError(f"`{other}`: the pair has no such side to compare with.")
    certificate, start = Certificate(), time.perf_counter()
    certificate.facts = {
        "seeds": stored.seeds,
        "recorded": stored.framework,
        "versions": dict(stored.facts["versions"]),
    }
    with shared(processes) as processes, _terminal(None) as show:
        proof = Proof(pair, certificate, processes, "cpu", stored.seeds, show)
        proof.sides[stored.framework] = proof.stored = stored
        proof.precisions = _precisions(precisions)
        proof.run(pair.reference(), 0)
    return _finished(certificate, start)


def _finished(certificate: Certificate, start: float) -> Certificate:
    certificate.seconds = time.perf_counter() - start
    _judge(certificate)
    return certificate


def _precisions(given: Sequence[str]) -> tuple[str, ...]:
    if unknown := sorted(set(given) - set(precision.UNITS)):
        raise ValueError(
            f"`precisions`: expected of {tuple(precision.UNITS)}, got {unknown[0]!r}."
        )
    return tuple(given)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds >= 1:
        return list(range(seeds))
    if (
        isinstance(seeds, Sequence)
        and seeds
        and all(type(seed) is int and seed >= 0 for seed in seeds)
    ):
        return list(seeds)
    raise ValueError(f"`seeds`: expected a number from 1 on, or seeds, got {seeds!r}.")


@contextmanager
def shared(given: Processes | None) -> Iterator[Processes]:
    """The caller's processes, or new ones that end with the proof."""
    if given is not None:
        yield given
        return
    with Processes() as own:
        yield own


@contextmanager
def _terminal(show: Show | None) -> Iterator[Show]:
    """Where progress is shown: the caller's place, or one line of a terminal."""
    if show is not None or not sys.stderr.isatty():
        yield show or (lambda text: None)
        return
    from rich.console import Console

    with Console(stderr=True).status("parity") as status:
        yield status.update


def _run(side: Any, problem: Problem, twice: bool) -> Run:
    return side.run(problem, twice=twice)


class Proof:
    """One pair on one device."""

    def __init__(
        self,
        pair: Pair,
        certificate: Certificate,
        processes: Processes,
        device: str,
        seeds: list[int],
        show: Show,
    ) -> None:
        self.pair, self.certificate, self.processes = pair, certificate, processes
        self.device, self.seeds, self.show = device, seeds, show
        self.sides: dict[str, Any] = {
            n: Live(n, pair, processes, device) for n in FRAMEWORKS
        }
        self.stored: Stored | None = None
        # Stage -> worst condition number.
        self.conditions: dict[str, float] = {}
        self.precisions: tuple[str, ...] = ("float32",)
        # Each seed's problem and both sides' float64 results.
        self.results: dict[int, tuple[Problem, dict[str, Run]]] = {}
        self.defaults: list[str] = []
        self.undecided: list[str] = []

    def run(self, reference: dict[str, Any], faults: int) -> None:
        """All rings; the rows and the verdict go into the certificate."""
        try:
            if not self._is_there():
                self.certificate.devices[self.device] = "not run"
                return
            weights = self._load(reference)
            if self._identity(weights):
                self._after_identity(reference, faults)
        except ProcessError as error:
            self.undecided.append(str(error))
        self._conclude()

    def _is_there(self) -> bool:
        keys = [side.key("float64") for side in self._live()]
        self.processes.start(*keys)
        self.show(f"{self.device}: both frameworks start")
        facts = [self.processes.facts(key) for key in keys]
        versions = self.certificate.facts.setdefault("versions", {})
        for found in facts:
            versions |= found["versions"]
        return all(found["there"] for found in facts)

    def _live(self) -> list[Live]:
        return [side for side in self.sides.values() if isinstance(side, Live)]

    def _load(self, reference: dict[str, Any]) -> Weights:
        described = {
            n: side.load("float64", reference) for n, side in self.sides.items()
        }
        weights = Weights(self.pair, self.sides, described)
        for remark in weights.remarks:
            self.certificate.remark(remark)
        if weights.source and not self.certificate.weights:
            self.certificate.weights = weights.source
            sys.stderr.write(weights.source + "\n")
        for name in described.get("torch", {}).get("held", []):
            self.certificate.remark(
                f"torch holds {name} (requires_grad is False), its gradient is zero"
            )
        return weights

    def _identity(self, weights: Weights) -> bool:
        """Ring A and D in float64; whether all of it held and was decided."""
        held, condition = True, {}
        for seed in self.seeds:
            self.show(f"{self.device}: float64, seed {seed}")
            problem = (self.stored or weights).problem(seed)
            if self.pair.optimizer is not None and not problem.weights:
                raise ValueError(
                    "`optimizer`: there are no weights that it could train; give "
                    "`weights`."
                )
            if not self.results:
                self._audit(problem)
            twice = not self.results or not problem.is_big
            runs = self._both(functools.partial(_run, problem=problem, twice=twice))
            self.results[seed] = problem, runs
            if self._moved(runs):
                return False
            if twice:
                draws = BIG_DRAWS if problem.is_big else DRAWS
                side = self._live()[0]
                condition = side.numbers(problem, "condition", draws=draws)
            rows = judge_identity(problem, runs, condition, self.certificate)
            for name, number in condition.items():
                stage = name.partition("/")[0]
                if np.isfinite(number):
                    self.conditions[stage] = max(number, self.conditions.get(stage, 1))
            self.certificate.add(rows, self.device)
            self._note_conditions(rows, condition)
            held &= all(row.ok for row in rows)
        return held and not self.undecided

    def _both(self, run: Callable[[Any], Any]) -> dict[str, Any]:
        """What each side gives; their processes compute side by side."""
        with ThreadPoolExecutor(2) as pool:
            return dict(
                zip(self.sides, pool.map(run, self.sides.values()), strict=True)
            )

    def _audit(self, problem: Problem) -> None:
        from parity_kit.defaults import differences, remarks

        facts = {side.framework: side.ask(problem, "audit") for side in self._live()}
        if self.stored is not None:
            facts[self.stored.framework] = self.stored.facts["audit"]
        self.defaults = differences(facts["torch"], facts["jax"])
        for remark in [*self.defaults, *remarks(facts["torch"], facts["jax"])]:
            self.certificate.remark(remark)

    def _moved(self, runs: Mapping[str, Run]) -> bool:
        for name, run in runs.items():
            for remark in run.facts["remarks"]:
                self.certificate.remark(remark)
            if run.facts["moved"]:
                places = ", ".join(run.facts["moved"][:3])
                self.undecided.append(
                    f"{name} gives other numbers the second time ({places}): it "
                    "draws random numbers or keeps state. Pass the noise as an "
                    "input, put modules into the mode without dropout (`.eval()`, "
                    "`deterministic=True`), and keep no counters or caches."
                )
        return bool(self.undecided)

    def _note_conditions(
        self, rows: Sequence[rings.Row], condition: Mapping[str, float]
    ) -> None:
        for row in rows:
            number = condition.get(row.quantity, 1.0)
            # Steps amplify what is zero but for rounding, such as the gradient of a
            # key's bias; where that leaves them equal, nothing is hidden.
            trained = row.quantity.startswith(("optimizer", "state"))
            if row.ring != "A" or (trained and row.value <= IDENTITY):
                continue
            if number > MAX_CONDITION and not self.undecided:
                self.undecided.append(
                    f"{row.quantity}: condition number {number:.0e} on {row.case}, "
                    f"above {MAX_CONDITION:.0e}: float64's own rounding hides what "
                    "would be compared. Give inputs away from kinks and cancellation."
                )

    def _after_identity(self, reference: dict[str, Any], faults: int) -> None:
        """What is only asked of sides that are identical in float64."""
        for dtype in self.precisions:
            self._precision(reference, dtype)
        if faults:
            self._faults(faults)

    def _faults(self, count: int) -> None:
        """Plant faults in both sides, and see whether the other's results show them."""
        total = self.certificate.faults or {"planted": 0, "seen": 0, "unseen": []}
        self.show(f"{self.device}: {count} planted faults")
        each = -(-count // len(self._live()))
        for name, found in self._both(functools.partial(self._planted, each)).items():
            total["planted"] += found["planted"]
            total["seen"] += found["seen"]
            total["unseen"] += [f"{name}, {text}" for text in found["unseen"]]
        self.certificate.faults = total
        if total["planted"] and not total["seen"]:
            self.undecided.append(
                f"none of {total['planted']} planted faults is seen: what is compared "
                "hardly depends on what is computed"
            )

    def _planted(self, count: int, side: Any) -> dict[str, Any]:
        nothing = {"planted": 0, "seen": 0, "unseen": []}
        if not isinstance(side, Live):
            return nothing
        problem, runs = self.results[self.seeds[0]]
        other = next(runs[n] for n in FRAMEWORKS if n != side.framework)
        against = self.processes.file(side.names_of(other.arrays))
        try:
            return side.ask(
                problem, "faults", count=count, steps=0, against=against,
                conditions=self.conditions,
            )  # fmt: skip
        except ValueError as error:
            self.certificate.remark(f"{side.framework}: no fault planted: {error}")
            return nothing

    def _precision(self, reference: dict[str, Any], dtype: str) -> None:
        if dtype == "tf32" and self.device == "cpu":
            self.certificate.remark("tf32 is not run on the CPU, which has none")
            return
        self.processes.start(*(side.key(dtype) for side in self._live()))
        self.show(f"{self.device}: {dtype}, simulated runs of each side")
        found = self._both(functools.partial(self._evidence, reference, dtype))
        gathered = {name: items for name, items in found.items() if items}
        judged = precision.judge(gathered, dtype)
        self.certificate.add(judged.rows, self.device)
        for remark in judged.remarks:
            self.certificate.remark(remark)

    def _evidence(
        self, reference: dict[str, Any], dtype: str, side: Any
    ) -> list[precision.Evidence]:
        if not isinstance(side, Live):
            return []
        try:
            side.load(dtype, reference)
            return self._gathered(side, dtype)
        except ValueError as error:
            text = f"{side.framework} in {dtype} is not judged: {error!s:.160}"
            self.certificate.remark(text)
            return []

    def _gathered(self, side: Live, dtype: str) -> list[precision.Evidence]:
        is_big = self.results[self.seeds[0]][0].is_big
        steps = min(self.pair.steps, 1 if is_big else NOISY_STEPS)
        runs = BIG_RUNS if is_big else NOISY_RUNS
        unit, found = precision.UNITS[dtype], []
        for seed in self.seeds[: 1 if is_big else NOISY_SEEDS]:
            problem = self.results[seed][0]
            exact, spread, ties = side.spread(problem, runs, unit, steps)
            short = side.run(problem, dtype, steps=steps)
            found.append(precision.Evidence(problem, exact, short, spread, ties))
        return found

    def _conclude(self) -> None:
        certificate = self.certificate
        rows = [r for r in certificate.rows if r["device"] == self.device]
        bad = [r for r in rows if not (r["ok"] or _only_remarked(r))]
        if bad:
            verdict = "failed"
        elif self.undecided or not rows:
            verdict = "undecided"
        else:
            verdict = "passed"
        certificate.devices[self.device] = verdict
        for remark in precision.described(rows):
            certificate.remark(remark)
        if bad:
            self._explain(bad)
        elif verdict == "undecided" and not certificate.first_divergence:
            certificate.reason = "; ".join(self.undecided) or "nothing was compared"

    def _explain(self, bad: list[dict[str, Any]]) -> None:
        certificate = self.certificate
        first = min(bad, key=lambda row: certificate.rank(row["quantity"]))
        stage = certificate.stage(first["quantity"])
        if certificate.first_divergence is None:
            causes = [text for text in self.defaults if _may_cause(text, stage)]
            certificate.first_divergence = "defaults" if causes else stage
            at = (
                f", step {first['quantity'].split('/')[1]}"
                if stage == "optimizer"
                else ""
            )
            certificate.reason = (
                f"{stage}{at} differs: {text.RINGS[first['ring']]} "
                f"{text.described(first)}"
            )
            if first["ring"] == "A" and first["value"] < UNIT_ROUNDOFF_32 * 10:
                certificate.remark(
                    "an error of the size of float32's rounding: a constant or a cast "
                    'may be float32 by name (np.float32, "float32") in one side'
                )
            if causes:
                certificate.reason += "; defaults that may be why: " + "; ".join(causes)
            self._reproduce(first)

    def _reproduce(self, row: dict[str, Any]) -> None:
        one = row["case"].startswith("seed ")
        seed = int(row["case"].removeprefix("seed ")) if one else self.seeds[0]
        problem, runs = self.results[seed]
        kept = {f"input {i}": a for i, a in enumerate(problem.inputs)}
        kept |= {f"weight {name}": a for name, a in problem.weights.items()}
        for name, run in runs.items():
            if row["quantity"] in run.arrays:
                kept[f"{name} {row['quantity']}"] = run.arrays[row["quantity"]]
        self.certificate.reproduction = kept
        self.certificate.facts["reproduction"] = f"seed {seed}, {row['quantity']}"
        if row["ring"] == "A" and row["quantity"].startswith("outputs"):
            self._first_module(problem)

    def _first_module(self, problem: Problem) -> None:
        """Say which part of two modules is the first to differ, if the map tells."""
        paths = _parts(self.sides["torch"].mapping)
        if not paths or self.stored is not None:
            return
        try:
            torch = self.sides["torch"].run(problem, modules=tuple(paths))
            jax = self.sides["jax"].run(problem, modules=tuple(paths.values()))
        except (ValueError, ProcessError):
            return
        for path in torch.facts["modules"]:
            got = jax.arrays.get(f"module/{paths[path]}")
            want = torch.arrays.get(f"module/{path}")
            if got is None or want is None or got.size != want.size:
                continue
            if got.shape != want.shape:
                # Channels first against channels last: the numbers without places.
                got, want = np.sort(got, axis=None), np.sort(want, axis=None)
            if not relative_error(got, want) <= IDENTITY * MAX_CONDITION:
                self.certificate.remark(
                    f"first part that differs: {path} (JAX's {paths[path]})"
                )
                return


# Settings that a port leaves at defaults which differ; what layers are made with, such
# as a padding, is the port's own.
CONVENTIONS = (": epsilon is", ": form is", ": statistics is", "layers compute in")
OF_STATE = ": share of the old average"


def _may_cause(difference: str, stage: str) -> bool:
    """Whether a default that differs can show first at this stage."""
    if OF_STATE in difference:
        return stage == "state"
    later = stage in ("loss", "gradient", "optimizer", "state")
    return not later and any(known in difference for known in CONVENTIONS)


def _only_remarked(row: Mapping[str, Any]) -> bool:
    """Whether it says that the bound is loose, and not that something differs."""
    return row["ring"] == "B" and row["value"] <= row["bound"]


def _parts(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Path of a part of PyTorch's module -> of JAX's, by the map of their weights."""
    if not mapping:
        return {}
    from parity_kit.weights.transforms import parts_of

    paths: dict[str, str] = {}
    for name, entry in mapping.items():
        targets = [target for target, _ in parts_of(entry) if target]
        path = name.rpartition(".")[0]
        other = targets[0].rpartition(".")[0] if targets else ""
        if path and other and "[" not in other:
            paths.setdefault(path, other)
    return paths


def judge_identity(
    problem: Problem,
    runs: Mapping[str, Run],
    condition: Mapping[str, float],
    certificate: Certificate,
) -> list[rings.Row]:
    """Ring A of floats and ring D of whole numbers, both sides in float64."""
    case = f"seed {problem.seed}"
    torch, jax = runs["torch"], runs["jax"]
    rows = _structures(case, torch, jax, certificate)
    broken = {certificate.stage(row.quantity) for row in rows}
    least = scales(torch.arrays)
    jax_arrays = _stacked(torch.arrays, jax.arrays)
    for name, want in torch.arrays.items():
        if certificate.stage(name) in broken or name.startswith("module/"):
            continue
        got = jax_arrays.get(name)
        if got is None:
            note = f"JAX has none; torch {list(want.shape)}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
        elif want.dtype.kind in "biu" and got.dtype.kind in "biu":
            tie = _tied_share(condition.get(name, 1.0), got, want)
            rows.append(rings.decision(case, name, "jax-torch", got, want, ties=tie))
        else:
            number = condition.get(name, 1.0)
            if got.dtype.kind != want.dtype.kind:
                certificate.remark(f"{name}: {want.dtype} in torch, {got.dtype} in JAX")
            rows.append(
                rings.identity(
                    case, name, "jax-torch", got, want, scale=least[name],
                    condition=number if np.isfinite(number) else 1.0,
                )
            )  # fmt: skip
    for name in jax_arrays:
        if name not in torch.arrays and certificate.stage(name) not in broken:
            note = f"torch has none; JAX {list(jax_arrays[name].shape)}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
    return rows


def _tied_share(
    condition: float, got: np.ndarray, want: np.ndarray
) -> np.ndarray | bool:
    """Numbers that an ulp of the inputs changes too are ties, if they are few."""
    if np.isfinite(condition) or got.shape != want.shape:
        return False
    return bool(np.mean(got != want) <= MAX_TIE_SHARE)


def _stacked(torch: Arrays, jax: Arrays) -> Arrays:
    """JAX's arrays; a probe under `vmap`, met once an element, as PyTorch's batch."""
    result = dict(jax)
    for name, want in torch.items():
        got = jax.get(name)
        if not name.startswith("probe/") or got is None or got.shape == want.shape:
            continue
        rows = [got]
        while f"{name}#{len(rows) + 1}" in jax:
            rows.append(jax[f"{name}#{len(rows) + 1}"])
        if want.shape == (len(rows), *got.shape) and f"{name}#2" not in torch:
            result = {n: a for n, a in result.items() if not n.startswith(f"{name}#")}
            result[name] = np.stack(rows)
    return result


def _structures(
    case: str, torch: Run, jax: Run, certificate: Certificate
) -> list[rings.Row]:
    """Probes in one side only, and outputs that are built differently."""
    for name in torch.facts["probes"]:
        if name not in certificate.probes:
            certificate.probes.append(name)
    rows = []
    ours, theirs = torch.facts["structures"], jax.facts["structures"]
    for name in [*ours, *theirs]:
        if "#" in name:
            continue
        if name not in ours or name not in theirs:
            side = "torch" if name in ours else "JAX"
            certificate.remark(f"only {side} has the {name.replace('/', ' ')}")
            continue
        if ours[name] != theirs[name]:
            note = f"built differently: torch {ours[name]}, JAX {theirs[name]}"
            rows.append(
                rings.Row("A", case, name, "jax-torch", np.inf, 0.0, False, note)
            )
    return list(dict.fromkeys(rows))


def _judge(certificate: Certificate) -> None:
    """The verdict over all devices."""
    found = [
        verdict for verdict in certificate.devices.values() if verdict != "not run"
    ]
    for verdict in ("failed", "undecided", "passed"):
        if verdict in found:
            certificate.verdict = verdict
            break
    else:
        certificate.verdict = "undecided"
        certificate.reason = "not run: no such device in both frameworks"
    if certificate.verdict == "passed":
        certificate.reason = ""
