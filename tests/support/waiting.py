"""Waiting for other processes, as long as it takes on any machine."""

import os
import time


# Seconds: a limit that only a hang meets.
PATIENCE = 600.0

HELD = """
import sys

if any(part.startswith("trpo") for part in sys.orig_argv):
    import time
    import trpo.runs.metrics
    import trpo.common.signals

    write = trpo.runs.metrics.MetricsWriter.write

    def held(self, step, row):
        refused = write(self, step, row)
        while not (trpo.common.signals._open and trpo.common.signals._open.is_set()):
            time.sleep(0.01)
        return refused

    trpo.runs.metrics.MetricsWriter.write = held
"""


def until(condition, *processes):
    """The first answer that is something, while these processes run."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        for process in processes:
            assert process.poll() is None, f"it ended: {process.args}"
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.02)
    return found


def holding(folder):
    """Variables with which each run stops after a row of metrics, till it is signalled.

    Else it may be over before the signal comes.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HELD)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
