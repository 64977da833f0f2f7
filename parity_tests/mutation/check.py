"""Quick checks that a mutant has to pass: few problems, every ring, in seconds.

Run as a process of its own, in a copy of the packages; prints one line of JSON: ring ->
its failures. The problems are small and of one size, so that JAX compiles little.
"""

import json
import sys
import traceback

from parity_tests.common import process_setup


# Group of faults -> the cases on which they are looked for.
CASES = {
    "gaussian": (
        "trained",
        "fresh",
        "saturated",
        "advantages_0",
        "constant_obs",
        "log_std_high",
    ),
    "discrete": ("choices", "choices_peaked", "choices_near", "switches"),
    "mixed": ("mixed", "mixed_state_std"),
    "images": ("images",),
    "textbook": ("textbook",),
    "networks": ("relu", "elu", "gelu", "silu_norm"),
    "masked": ("masked", "switches_masked"),
    "step": ("step_options", "natural"),
    "continuous": ("trained", "state_std", "state_std_high", "squashed"),
    # Looked for by checks of their own.
    "recurrent": (),
    "constrained": (),
}
# Ring C is a mean over cases and seeds: of fewer it is chance. Of 8, 16 and 32 problems
# of "discrete", JAX had 4.0, 2.7 and 2.2 times the error of PyTorch in one quantity.
LEAST_PROBLEMS = 16
GOLDEN = "gauss_small_f64"
MOST_NOTES = 3


def main() -> int:
    """Print the failures; exit status 1 if there are any."""
    # The functions below import the rest only when they run: both frameworks read their
    # settings as they are imported, and a fault may keep one from being imported.
    process_setup.prepare()
    # A fault in one backend can't change what is checked of the other one alone.
    group, *frameworks = sys.argv[1:] or ["gaussian"]
    names, frameworks = CASES[group], frameworks or ["torch", "jax"]
    failures: dict[str, list[str]] = {}
    try:
        if names:
            _rings(failures, names)
    except Exception as error:
        # A mutant that crashes a backend has been caught by the first ring.
        failures.setdefault("A", []).append(
            f"crash: {type(error).__name__}: {error}"[:200]
        )
        traceback.print_exc(limit=3)
    try:
        _checks(failures, frameworks, group)
    except Exception as error:
        failures.setdefault("truth", []).append(f"crash: {error}"[:200])
    print(json.dumps({ring: notes[:MOST_NOTES] for ring, notes in failures.items()}))
    return bool(failures)


def _rings(failures: dict[str, list[str]], names: tuple[str, ...]) -> None:
    from parity_tests.rings import evidence
    from parity_tests.suite import all_checks

    seeds = max(2, LEAST_PROBLEMS // len(names))
    gathered, crashes = [], []
    for name in names:
        try:
            gathered += evidence.gather_all([name], seeds=seeds)
        except Exception as error:
            # What crashes one case may show itself in the numbers of another.
            crashes.append(f"crash: {name} {type(error).__name__}: {error}"[:200])
            traceback.print_exc(limit=3)
    for row in all_checks.judge(gathered):
        if not row.ok and not (crashes and row.ring == "C"):
            text = f"{row.case} {row.quantity} {row.subject} {row.value:.1e} {row.note}"
            failures.setdefault(row.ring, []).append(text)
    if crashes:
        # Caught by the first ring; behind what it has seen, which says more.
        failures["A"] = failures.get("A", [])[: MOST_NOTES - 1] + crashes


def _checks(failures: dict[str, list[str]], frameworks: list[str], group: str) -> None:
    from parity_tests.suite import all_checks

    gaussian = group in ("gaussian", "discrete")
    left_out = all_checks.NOT_PLAIN_GAUSSIAN if gaussian else ()
    groups = {
        stem: name
        for name, stems in all_checks.CHECKS_OF_GROUP.items()
        for stem in stems
    }
    group_of_checks = group if group in all_checks.CHECKS_OF_GROUP else None
    for check in all_checks.checks([GOLDEN], frameworks):
        if check.stem in left_out or groups.get(check.stem) != group_of_checks:
            continue
        outcome = all_checks.perform(check)
        if not outcome.ok:
            note = f"{check.name}: {outcome.message}"
            failures.setdefault(check.group, []).append(note)


if __name__ == "__main__":
    sys.exit(main())
