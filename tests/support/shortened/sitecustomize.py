"""On PYTHONPATH: each of our commands that is started makes a run of a moment."""

import sys
from pathlib import Path


OURS = ("trpo", "benchmarks", "parity_tests")
if any(Path(part).name.startswith(OURS) for part in sys.orig_argv):
    from tests.support.short_runs import shorten

    shorten()
