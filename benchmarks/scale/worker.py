"""One of the processes that time updates: python -m benchmarks.scale.worker ….

Arguments: backend, samples in all, minibatch, repetitions. Prints a line of JSON.
"""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


OBS_DIM, ACT_DIM, LAYERS = 17, 6, (64, 64)
EPOCHS = 10
# Of each size, to tell what one takes alone.
REDUCTIONS = 100


def make(backend: str, minibatch: int) -> Any:
    """An agent of the size of HalfCheetah-v5's."""
    module = importlib.import_module(f"trpo_{backend}")
    return module.TRPOAgent(
        OBS_DIM, ACT_DIM, -1.0, 1.0, "cpu", LAYERS, LAYERS,
        value_epochs=EPOCHS, value_minibatch_size=minibatch,
    )  # fmt: skip


def batch_of(agent: Any, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Samples of the agent's own policy."""
    generator = np.random.default_rng(seed)
    obs = generator.standard_normal((samples, OBS_DIM)).astype(np.float32)
    actions, log_probs, _ = agent.act(obs)
    rest = generator.standard_normal((2, samples)).astype(np.float32)
    return {
        "obs": obs, "actions": actions, "log_probs": log_probs,
        "returns": rest[0], "advantages": rest[1],
    }  # fmt: skip


def main() -> None:
    """Time updates, and what an all-reduce alone takes."""
    backend, samples, minibatch, rounds = sys.argv[1], *map(int, sys.argv[2:])
    engine = importlib.import_module(f"trpo_{backend}.devices.processes")
    size = int(os.environ["WORLD_SIZE"])
    ranks = engine.start()
    agent = make(backend, minibatch)
    agent.shard(ranks)
    own = np.array_split(np.arange(samples), size)[ranks.rank]
    batch = {n: a[own] for n, a in batch_of(agent, samples).items()}
    report = agent.update(batch)
    seconds, counts = [], {}
    for _ in range(rounds):
        ranks.gather({})
        start = time.perf_counter()
        report = agent.update(batch)
        seconds.append(time.perf_counter() - start)
    if backend == "torch":
        from benchmarks.scale.communication import counted_of_torch

        with counted_of_torch() as counted:
            report = agent.update(batch)
        counts = dict(counted)
    found = {
        "seconds": statistics.median(seconds),
        "counts": counts,
        "cg": int(report["cg/iterations"]),
        "frac": report["policy/line_search_frac"],
        "links": _links(backend) if size > 1 else {},
        "digest": bytes(agent.digest()).hex(),
    }
    digests = [part["d"].tobytes() for part in ranks.gather({"d": agent.digest()})]
    found["equal"] = len(set(digests)) == 1
    if ranks.rank == 0:
        print(json.dumps(found), flush=True)
    ranks.close()


def _links(backend: str) -> dict[str, float]:
    """Seconds of an all-reduce of 1, 1,000, … numbers.

    The mean, as an update's add up: where processes take turns on a core, one in some
    waits for a turn of several milliseconds.
    """
    reduce = {"torch": _reduce_in_torch, "jax": _reduce_in_jax}[backend]
    found = {}
    for count in (1, 1_000, 10_000, 100_000, 1_000_000):
        call = reduce(count)
        call()
        start = time.perf_counter()
        for _ in range(REDUCTIONS):
            call()
        found[str(count)] = (time.perf_counter() - start) / REDUCTIONS
    return found


def _reduce_in_torch(count: int) -> Callable[[], Any]:
    import torch
    from torch import distributed

    tensor = torch.zeros(count)
    return lambda: distributed.all_reduce(tensor)


def _reduce_in_jax(count: int) -> Callable[[], Any]:
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("device",))
    parts = PartitionSpec("device")
    whole = jax.make_array_from_process_local_data(
        NamedSharding(mesh, parts), np.zeros((1, count), np.float32)
    )
    add = jax.shard_map(
        lambda part: jax.lax.psum(part, "device"),
        mesh=mesh, in_specs=parts, out_specs=PartitionSpec(),
    )  # fmt: skip
    jitted = jax.jit(add)
    return lambda: jitted(whole).block_until_ready()


if __name__ == "__main__":
    main()
