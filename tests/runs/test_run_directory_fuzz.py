"""Run directories of strangers, full disks and editors: read, or refused in one line.

What was found by it has tests of its own: `test_run_files.py`, `test_metrics.py`,
`test_checkpoint.py`, `test_checkpoint_fit.py`.
"""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.faults.untrusted.spoilt_runs import made_run


def run(module, *arguments, **environment):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"benchmarks.faults.untrusted.{module}",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return int(re.match(r"(\d+) tries", done.stdout)[1])


def test_every_reader_ends_in_a_result_or_in_one_line_that_names_a_file(tmp_path):
    # In one process, which has no framework.
    assert run("spoilt_readers", made_run(tmp_path), 2000, 0) == 2000


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_so_does_every_command(backend):
    assert run("spoilt_commands", backend, 20, 0) == 20
