"""How many files of a backend a reader has to open to follow one update.

`python -m tests.project.test_first_update torch` (or `jax`) prints them in order;
with `off` behind it, without `trpo_torch/fast/`.
"""

import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
# Tracing included, construction and `act` not. To fall, not to rise.
MOST = {("torch", "off"): 14, ("torch", "auto"): 18, ("jax", "auto"): 14}

PROGRAM = """
import importlib, pathlib, sys
import numpy as np

backend, products = sys.argv[1:]
agent = importlib.import_module(backend).TRPOAgent(
    3, 1, -2.0, 2.0, "cpu", (8,), (8,), fast_products=products
)
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


def files(backend: str, products: str = "auto") -> list[str]:
    """Files whose code runs in the first default update of a process, in order."""
    command = [sys.executable, "-c", PROGRAM, f"trpo_{backend}", products]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("backend", "products"), MOST)
def test_an_update_runs_code_of_few_files(backend, products):
    found = files(backend, products)
    assert len(found) > 5
    assert len(found) <= MOST[backend, products], found
    assert any(name.startswith("fast/") for name in found) == (
        (backend, products) == ("torch", "auto")
    )


if __name__ == "__main__":
    print(*files(*sys.argv[1:]), sep="\n")  # noqa: T201
