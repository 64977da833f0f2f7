"""How many files of a backend a reader has to open to follow one update.

`python -m tests.project.test_first_update torch` (or `jax`) prints them in order.
"""

import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
# Tracing included, construction and `act` not. To fall, not to rise.
MOST = {"torch": 21, "jax": 18}

PROGRAM = """
import importlib, pathlib, sys
import numpy as np

backend = sys.argv[1]
agent = importlib.import_module(backend).TRPOAgent(3, 1, -2.0, 2.0, "cpu", (8,), (8,))
random = np.random.default_rng(0)
obs = random.standard_normal((64, 3)).astype(np.float32)
action, log_prob, value = agent.act(obs)
batch = dict(obs=obs, actions=action, log_probs=log_prob, returns=value + 1,
             advantages=random.standard_normal(64))
folder = pathlib.Path(importlib.import_module(backend).__file__).parent
seen = {}

def profile(frame, event, argument):
    if event == "call":
        seen.setdefault(frame.f_code.co_filename)

sys.setprofile(profile)
agent.update(batch)
sys.setprofile(None)
for name in seen:
    path = pathlib.Path(name)
    if path.is_relative_to(folder):
        print(path.relative_to(folder))
"""


def files(backend: str) -> list[str]:
    """Files whose code runs in the first default update of a process, in order."""
    command = [sys.executable, "-c", PROGRAM, f"trpo_{backend}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_an_update_runs_code_of_few_files(backend):
    found = files(backend)
    assert len(found) > 5
    assert len(found) <= MOST[backend], found


if __name__ == "__main__":
    print(*files(sys.argv[1]), sep="\n")  # noqa: T201
