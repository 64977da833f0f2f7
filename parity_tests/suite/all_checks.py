"""Every check of the suite; tests, certificate and mutation run call them from here."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from parity_tests import oracles
from parity_tests.common.tolerances import TF32_SHOWS_IN, TF32_UNSTABLE
from parity_tests.oracles import (
    constrained as constrained_oracles,
    failures,
    golden as golden_checks,
    metamorphic,
    recurrent as recurrent_oracles,
    shared_parts as shared_oracles,
)
from parity_tests.rings import lowering, rings
from parity_tests.rings.evidence import Evidence


FRAMEWORKS = ("torch", "jax")
RECURRENT = (*recurrent_oracles.CHECKS, *recurrent_oracles.SHARED)
CONSTRAINED = (*constrained_oracles.CHECKS, *constrained_oracles.SHARED)
# Group of planted faults -> the checks that look for these faults alone.
CHECKS_OF_GROUP = {"recurrent": RECURRENT, "constrained": CONSTRAINED}
# Checks of squashed and mixed actions, of a log_std for each row, and of masks. They
# compile much, and faults in the code of the plain Gaussian show without them.
NOT_PLAIN_GAUSSIAN = (
    *("Fisher with own log_std", "60 digits, squashed", "entropy, squashed"),
    *("dense Fisher of other networks", "gradient and Fisher of images"),
    *("gradients of other distributions", "act of other distributions"),
    *RECURRENT,
    *CONSTRAINED,
)


class Check(NamedTuple):
    """One check that is no ring.

    Attributes:
        group: "truth" (oracles, recorded vectors, transformed problems) or "failures".
        name: of the property checked, then of the backend if it is of one alone.
        run: raises AssertionError where the property does not hold.
    """

    group: str
    name: str
    run: Callable[[], None]

    @property
    def stem(self) -> str:
        """The check's name without the backend's."""
        first, _, last = self.name.rpartition(", ")
        return first if last in FRAMEWORKS else self.name


class Outcome(NamedTuple):
    """A check's outcome; `message` is empty where it holds."""

    group: str
    name: str
    ok: bool
    message: str


def checks(
    golden_names: list[str], frameworks: Sequence[str] = FRAMEWORKS
) -> list[Check]:
    """Every check that is no ring, of these recorded cases and backends."""
    all_checks = [
        check
        for framework in frameworks
        for check in _framework_checks(framework, golden_names)
    ]
    if "jax" in frameworks:
        name = "products ask for full precision, jax"
        all_checks.append(Check("truth", name, lowering.check_full_precision))
    shared = shared_oracles.CHECKS | recurrent_oracles.SHARED
    for name, check in (shared | constrained_oracles.SHARED).items():
        all_checks.append(Check("truth", name, check))
    for name, check in failures.CHECKS.items():
        all_checks.append(Check("failures", name, check))
    return all_checks


def _framework_checks(framework: str, golden_names: list[str]) -> list[Check]:
    """The checks of one backend alone."""
    checks = []
    for module in (oracles, metamorphic, recurrent_oracles, constrained_oracles):
        for name, check in module.CHECKS.items():
            run = lambda check=check, framework=framework: check(framework)
            checks.append(Check("truth", f"{name}, {framework}", run))
    for name in golden_names:
        for check in (
            golden_checks.check_stages,
            golden_checks.check_updates,
            golden_checks.check_cg,
        ):
            run = lambda c=check, f=framework, n=name: c(f, n)
            kind = check.__name__.removeprefix("check_")
            checks.append(Check("truth", f"recorded {name} {kind}, {framework}", run))
    return checks


def perform(check: Check) -> Outcome:
    """Run a check; one that raises anything has failed."""
    try:
        check.run()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return Outcome(check.group, check.name, False, message[:400])
    return Outcome(check.group, check.name, True, "")


def judge(evidence: list[Evidence]) -> Iterator[rings.Row]:
    """The rows of all four rings."""
    for item in evidence:
        yield from rings.identity(item)
    yield from rings.precision(evidence)
    yield from rings.fairness(evidence)
    for item in evidence:
        yield from rings.decisions(item)


def judge_tf32(evidence: list[Evidence]) -> Iterator[rings.Row]:
    """Rings B and D with TF32 products, against spreads of that precision.

    Float64 knows no TF32, so there is no ring A; and each library chooses for which
    shapes it uses TF32, so there is no ring C.
    """
    yield from rings.precision(evidence, TF32_SHOWS_IN, TF32_UNSTABLE)
    for item in evidence:
        yield from rings.decisions(item, dtypes=("float32",))
