"""Programs that need a number of JAX devices, which is one setting of a process."""

import os
import subprocess
import sys
from pathlib import Path


def assert_says_equal(script, *arguments, **environment):
    """Run a program that compares, and ends with the line "equal"."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("equal\n")
