"""A short throughput table: one update in each backend, interleaved, compile apart."""

import statistics
import time
from typing import NamedTuple

import numpy as np

from benchmarks.speed.problems import Size, make_problem
from trpo.agent.make import load_backend


class Timing(NamedTuple):
    """Milliseconds of one backend at one size.

    Attributes:
        first: first call, compilation included.
        median: median of the later calls.
        spread: half the range from the first to the third quartile.
        cg_iterations: mean Fisher products per update; the work done.
    """

    first: float
    median: float
    spread: float
    cg_iterations: float


SIZES = (
    Size("Pendulum", 2_048, 3, 1, (64, 64)),
    Size("HalfCheetah", 2_048, 17, 6, (64, 64)),
    Size("wide", 8_192, 17, 6, (256, 256)),
)


def time_update(size: Size, repeats: int) -> dict[str, Timing]:
    """Time one update of each backend, in turns, so that both meet the same noise.

    The agents start each call from the same state, so that each does the same work.
    """
    batch = make_problem(size).batch
    agents, states, samples, work = {}, {}, {}, {}
    for name in ("torch", "jax"):
        agents[name] = load_backend(name).TRPOAgent(
            size.obs_dim, size.act_dim, -1, 1, "cpu", size.layers, size.layers
        )
        states[name] = agents[name].get_state()
        samples[name], work[name] = [], []
    for _ in range(repeats + 1):
        for name, agent in agents.items():
            agent.set_state(states[name])
            start = time.perf_counter()
            # Returns Python floats, so the device has finished.
            metrics = agent.update(batch)
            samples[name].append(1e3 * (time.perf_counter() - start))
            work[name].append(metrics["cg/iterations"])
    return {
        name: Timing(
            times[0],
            statistics.median(times[1:]),
            0.5 * float(np.subtract(*np.percentile(times[1:], [75, 25]))),
            statistics.mean(work[name]),
        )
        for name, times in samples.items()
    }
