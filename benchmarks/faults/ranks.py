"""A rank of a run of many processes is killed at a random moment."""

import tempfile
from pathlib import Path

from benchmarks.faults.row import Row, Scenario, require
from benchmarks.scale.faults import SECONDS, attacks, made


def killed(row: Row) -> None:
    """It is named in time, and the resumed run ends as if nothing had happened."""
    longest = 0.0
    for attack in attacks(row.tries):
        with row.attempt(attack), tempfile.TemporaryDirectory() as directory:
            outcome = made(attack, Path(directory))
            longest = max(longest, outcome.seconds)
            require(outcome.seconds <= SECONDS, f"{outcome.seconds:.0f} s to the end")
            require(outcome.named, "nobody has said which rank it was")
            require(outcome.resumed, "the resumed run is another one")
    row.note = f"named and ended within {longest:.0f} s"


SCENARIOS = [Scenario("many processes", "kill -9 of a rank", 20, killed, least=2)]
