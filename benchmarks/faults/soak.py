"""Long runs: nothing grows."""

import os
import threading
from typing import Any

import numpy as np

from benchmarks.faults.row import Row, Scenario, require
from benchmarks.faults.runs import config
from trpo.training.trainer import Trainer


KIB = os.sysconf("SC_PAGE_SIZE") / 1024


def _now(backend: str) -> list[float]:
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * KIB
    compiled = 0
    if backend == "jax":
        from trpo_jax.agent.update import act, update, value

        functions: tuple[Any, ...] = (act, update, value)
        compiled = sum(function._cache_size() for function in functions)
    descriptors = len(os.listdir("/proc/self/fd"))
    return [resident, descriptors, threading.active_count(), compiled]


def grows(backend: str) -> Any:
    """Memory, file descriptors, threads and compilations over many updates."""

    def run(row: Row) -> None:
        settings = config(backend, num_envs=2, rollout_steps=8)
        with Trainer(settings) as trainer:
            for _ in range(max(20, row.tries // 5)):  # Until caches are warm.
                trainer.train_once()
            seen = []
            for index in range(row.tries):
                with row.attempt(f"update {index}"):
                    trainer.train_once()
                if index % max(1, row.tries // 50) == 0:
                    seen.append([index, *_now(backend)])
            table = np.array(seen)
            updates = table[:, 0] / 1000.0
            slopes = [float(np.polyfit(updates, c, 1)[0]) for c in table[:, 1:].T]
            names = ("KiB", "descriptors", "threads", "compilations")
            said = ", ".join(f"{s:.2f} {n}" for s, n in zip(slopes, names, strict=True))
            row.note = f"per 1,000 updates: {said}"
            with row.attempt("slopes"):
                # 10 MiB in 10,000 updates, or nothing that counts.
                short = row.tries < 1000
                require(short or slopes[0] < 1024.0, row.note)
                require(all(abs(s) < 0.5 for s in slopes[1:]), row.note)

    return run


SCENARIOS = [
    Scenario("soak", f"updates on end, {name}", 10_000, grows(backend), 60)
    for backend, name in (("torch", "PyTorch"), ("jax", "JAX"))
]
