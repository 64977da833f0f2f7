"""The plan of a proof on one device: what is run, and what follows from its rows."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from parity_kit import precision, rings
from parity_kit.certificate import text
from parity_kit.certificate.record import Certificate
from parity_kit.judging import judge_identity
from parity_kit.pair import FRAMEWORKS, Pair
from parity_kit.processes import ProcessError, Processes
from parity_kit.sides import Live, Problem, Run, Stored, Weights
from parity_kit.tolerances import (
    IDENTITY,
    MAX_CONDITION,
    UNIT_ROUNDOFF_32,
    relative_error,
)


DRAWS, BIG_DRAWS = 3, 1
# In a shorter precision: seeds, simulated runs of each, and optimiser steps.
NOISY_SEEDS, NOISY_RUNS, NOISY_STEPS = 3, 6, 3
BIG_RUNS = 4
Show = Callable[[str], None]


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
        described = self._both(lambda side: side.load("float64", reference))
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
            self._note_nothing(seed, runs["torch"])
        return held and not self.undecided

    def _note_nothing(self, seed: int, run: Run) -> None:
        given = [
            array
            for name, array in run.arrays.items()
            if name.partition("/")[0] in ("outputs", "loss")
        ]
        if not self.undecided and not any(np.isfinite(a).any() for a in given):
            shapes = ", ".join(str(list(array.shape)) for array in given[:3])
            self.undecided.append(
                f"seed {seed}: outputs of shape {shapes} without a finite number: "
                "nothing is compared. Give inputs that have results."
            )

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
