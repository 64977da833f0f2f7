"""Measures compiled training: environment steps per second of whole iterations."""

import time
from typing import Any

from benchmarks.speed.cell import Cell
from benchmarks.speed.measures.training import (
    LEAST_ITERATIONS,
    WARM_UP,
    training_config,
)
from trpo.common.framework_settings import reserve_cpu_devices
from trpo.runs.members import members_of


# Iterations between two returns to the host, as with the default checkpoint interval.
CHUNK = 10
SEEDS = {"compiled": 1, "compiled-16": 16}


def measure_compiled(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Environment steps per second after warm-up, over all members.

    Returns:
        `steps_per_second` of all members together, `members`, and `compile`, the
        seconds of the first call less those of a later one.
    """
    reserve_cpu_devices(SEEDS[cell.subject])
    from trpo_jax.loop.trainer import CompiledTrainer

    config = training_config(cell.env_id, cell.num_envs, device=cell.device)
    steps = config.num_envs * config.rollout_steps
    members = [m.config for m in members_of(config, SEEDS[cell.subject], {})]
    trainer = CompiledTrainer(members, longest_chunk=CHUNK, episodes=1)

    def timed() -> float:
        # It ends when the metrics are on the host, and so the chunk is done.
        start = time.perf_counter()
        trainer.advance(CHUNK)
        return time.perf_counter() - start

    first = timed()
    for _ in range(WARM_UP):
        trainer.advance(CHUNK)
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) < LEAST_ITERATIONS or (
        time.perf_counter() - start < 4 * settings["seconds"]
    ):
        seconds.append(timed())
    whole = time.perf_counter() - start
    return {
        "steps_per_second": len(members) * len(seconds) * CHUNK * steps / whole,
        "members": len(members),
        "iterations": len(seconds) * CHUNK,
        "compile": first - min(seconds),
    }
