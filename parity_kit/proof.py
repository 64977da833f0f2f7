"""The doors of a proof: both sides at once, or one that is stored and compared."""

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parity_kit import precision, references
from parity_kit.certificate.record import Certificate
from parity_kit.pair import FRAMEWORKS, Pair
from parity_kit.plan import Proof, Show
from parity_kit.processes import Processes
from parity_kit.sides import Live, Stored, Weights, write_recorded


DEVICES = ("cpu", "cuda")


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
    _conclude(certificate)
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


def _conclude(certificate: Certificate) -> None:
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
