"""Times updates of the packages on PYTHONPATH; see `benchmarks.speed.against`.

Arguments: backend, samples, units of each of two layers, seconds. Uses nothing of this
repository but the agent, which an older one has as well. Prints a line of JSON.
"""

import importlib
import json
import sys
import time

import numpy as np


OBS_DIM, ACT_DIM = 17, 6
WARM_UP = 3


def main(backend: str, samples: str, units: str, seconds: str) -> None:
    """Time updates from one state, each to its end."""
    module = importlib.import_module(f"trpo_{backend}")
    layers = (int(units), int(units))
    agent = module.TRPOAgent(OBS_DIM, ACT_DIM, -1.0, 1.0, "cpu", layers, layers)
    generator = np.random.default_rng(0)
    obs = generator.standard_normal((int(samples), OBS_DIM)).astype(np.float32)
    actions, log_probs, _ = agent.act(obs)
    rest = generator.standard_normal((2, int(samples), 1)).astype(np.float32)
    batch = {
        "obs": obs, "actions": actions, "log_probs": log_probs, "returns": rest[0],
        "advantages": rest[1],
    }  # fmt: skip
    state, found = agent.get_state(), []
    for _ in range(WARM_UP):
        agent.update(batch)
    end = time.perf_counter() + float(seconds)
    while time.perf_counter() < end or not found:
        agent.set_state(state)
        start = time.perf_counter()
        agent.update(batch)
        found.append(time.perf_counter() - start)
    print(json.dumps({"seconds": found, "file": module.__file__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
