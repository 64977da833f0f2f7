"""The command: `python -m parity_kit my_module:pair [--devices ...] [--out DIR]`."""

import dataclasses
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from parity_kit import references
from parity_kit.certificate.record import EXIT
from parity_kit.pair import FRAMEWORKS, Pair
from parity_kit.processes import Processes
from parity_kit.proof import prove, shared


# Pairs by name, each with where it is found again.
Named = dict[str, tuple[Pair, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Prove that a PyTorch function and a JAX function are equal.

    Exits 0 if they are, 1 if they differ, 2 if it is undecided or can't be run.

    Attributes:
        pair: The pair, as module:name; also a function that returns one, or a list or
            dict of pairs.
        seeds: How many seeds the inputs are drawn from.
        devices: Devices to run on: cpu, cuda.
        precisions: Shorter precisions that are judged: float32, bfloat16, tf32.
        faults: How many faults are planted, to see whether the proof sees them.
        out: Folder for the certificate.
    """

    pair: Annotated[str, tyro.conf.Positional]
    seeds: int = 5
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("float32",)
    faults: int = 20
    out: Path = Path("parity")


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and run."""
    return run(tyro.cli(Arguments, args=arguments, prog="parity_kit"))


def run(
    parsed: Arguments,
    processes: Processes | None = None,
    changed: Callable[[Named, Processes], Named] = lambda pairs, _: pairs,
) -> int:
    """Prove the pair, or pairs, print a summary and write the certificates.

    Args:
        parsed: What is asked for.
        processes: Framework processes to share with other proofs.
        changed: Makes those pairs that are proved of those that are named.
    """
    try:
        certificates = {}
        with shared(processes) as processes:
            _import_from_here()
            # They import their frameworks while this process imports the pair.
            for device in parsed.devices[:1]:
                processes.start(*((side, "float64", device) for side in FRAMEWORKS))
            pairs = changed(_pairs(parsed.pair), processes)
            for name, (pair, where) in pairs.items():
                certificates[name] = prove(
                    pair, parsed.seeds, parsed.devices,
                    precisions=parsed.precisions, faults=parsed.faults,
                    processes=processes, where=where, name=name,
                )  # fmt: skip
                many = len(pairs) > 1
                folder = parsed.out / (re.sub("[:, ]+", ".", name) if many else "")
                certificates[name].write(folder)
                sys.stdout.write(certificates[name].summary() + "\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT["undecided"]
    sys.stdout.write(f"certificate: {parsed.out}\n")
    verdicts = {certificate.verdict for certificate in certificates.values()}
    worst = next(v for v in ("failed", "undecided", "passed") if v in verdicts)
    return EXIT[worst]


def _import_from_here() -> None:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _pairs(text: str) -> Named:
    """The pairs that a text names, each with its reference."""
    reference = references.of_text(text)
    found: Any = references.resolve(reference)
    if callable(found) and not isinstance(found, Pair):
        reference = {**reference, "call": []}
        try:
            found = found()
        except TypeError as error:
            raise ValueError(
                f"{text}: expected a Pair, or a function without arguments that "
                f"returns one: {error}"
            ) from error
    items: dict[str, Any] = {}
    if isinstance(found, dict):
        items = {str(key): pair for key, pair in found.items()}
        keys: list[Any] = list(found)
    elif isinstance(found, list | tuple):
        items = {str(i): pair for i, pair in enumerate(found)}
        keys = list(range(len(found)))
    else:
        items, keys = {"": found}, []
    wrong = [pair for pair in items.values() if not isinstance(pair, Pair)]
    if wrong or not items:
        kind = type(wrong[0]).__qualname__ if wrong else "nothing"
        raise ValueError(f"{text}: expected a Pair, got {kind}.")
    if not keys:
        return {text: (items[""], reference)}
    named = zip(items.items(), keys, strict=True)
    return {
        f"{text}.{name}": (pair, {**reference, "key": key})
        for (name, pair), key in named
    }
