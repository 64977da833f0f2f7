"""Faults of an update: it commits a finite step inside its region, or nothing."""

import functools
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from benchmarks.faults.row import Row, Scenario, require
from trpo.agent.make import load_backend
from trpo.data.report import StepStatus


BACKENDS = ("torch", "jax")
OBS, ACT, SIZE = 3, 2, 12
# Means are rounded to float32: this far, in standard deviations.
ROUNDING = 1e-5
ROOT = Path(__file__).parents[2]
TRACED = tuple(str(ROOT / name) + "/" for name in ("trpo", "trpo_torch", "trpo_jax"))


def make_agent(backend: str, **changes: Any) -> Any:
    """A small agent that normalises observations and has taken one update."""
    agent = load_backend(backend).TRPOAgent(
        OBS, ACT, -1.0, 1.0, "cpu", (8,), (8,),
        **{"value_epochs": 2, "value_minibatch_size": 5, "normalize_observations": True}
        | changes,
    )  # fmt: skip
    agent.observe(np.random.default_rng(5).standard_normal((50, OBS)))
    agent.update(make_batch(agent))
    return agent


@functools.cache
def ready(backend: str, **changes: Any) -> tuple[Any, Any]:
    """Such an agent, compiled once for all rows, and the state that it begins in."""
    agent = make_agent(backend, **changes)
    return agent, agent.snapshot()


def make_batch(agent: Any, size: int = SIZE, seed: int = 0) -> dict[str, np.ndarray]:
    """Samples of the agent's policy, from any generator but its own."""
    draw = np.random.default_rng(seed)
    obs = draw.standard_normal((size, OBS)).astype(np.float32)
    before = agent.snapshot()
    actions, log_probs, _ = agent.act(obs)
    agent.restore(before)
    normal = draw.standard_normal((2, size, 1)).astype(np.float32)
    return {
        "obs": obs,
        "actions": actions,
        "log_probs": log_probs,
        "returns": normal[0],
        "advantages": normal[1],
    }


def all_bytes(agent: Any) -> dict[str, tuple]:
    """Every byte of an agent's state."""
    return {
        name: (array.dtype.str, array.shape, array.tobytes())
        for name, array in agent.get_state().items()
    }


def _distribution(agent: Any, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = agent.act(obs, deterministic=True)[0].astype(np.float64)
    return mean, agent.get_state()["policy.log_std"].astype(np.float64)


def _kl(old: tuple, new: tuple) -> float:
    (m, s), (n, r) = old, new
    terms = r - s + (np.exp(2 * (s - r)) + (m - n) ** 2 * np.exp(-2 * r) - 1) / 2
    return float(terms.sum(1).mean())


def outcome(agent: Any, batch: dict, target_kl: float = 0.01) -> str:
    """Update, hold it to the contract, and say in a word how it ended.

    Raises:
        Lost: the contract is broken.
    """
    before = all_bytes(agent)
    obs = np.nan_to_num(batch["obs"], nan=0.0, posinf=0.0, neginf=0.0).clip(-9, 9)
    old = _distribution(agent, obs)
    try:
        metrics = agent.update(batch, target_kl=target_kl)
    except ValueError as error:
        require("batch['" in str(error), f"the refusal names no field: {error}")
        require(all_bytes(agent) == before, "a refused update changed the state")
        return str(error).partition(" at index")[0]
    state = agent.get_state()
    bad = [name for name, array in state.items() if not np.isfinite(array).all()]
    require(not bad, f"not finite after the update: {bad}")
    status = StepStatus(int(metrics["policy/status"]))
    policy_same = all(
        array == before[name] for name, array in all_bytes(agent).items()
        if name.startswith("policy.")
    )  # fmt: skip
    if status == StepStatus.NON_FINITE:
        require(all_bytes(agent) == before, "NON_FINITE, and the state has changed")
    elif status != StepStatus.ACCEPTED:
        require(policy_same, f"{status.name}, and the policy has changed")
    elif np.array_equal(obs, batch["obs"]):
        kl = _kl(old, _distribution(agent, obs))
        inside = np.sqrt(max(kl, 0.0)) <= np.sqrt(1.001 * target_kl) + ROUNDING
        require(inside, f"KL {kl} after a step of at most {target_kl}")
    return status.name


def poisoned(row: Row) -> None:
    """A number that does harm, at any place of any field; alike in both backends."""
    agents, starts = zip(*map(ready, BACKENDS), strict=True)
    fields = ("obs", "actions", "log_probs", "returns", "advantages")
    harm = st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45])
    place = st.tuples(st.sampled_from(fields), st.integers(0, 10**6), harm)

    @settings(
        max_examples=row.tries, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate,), suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(st.lists(place, min_size=1, max_size=4))
    def one(places: list) -> None:
        with row.attempt(places):
            said, finite = [], True
            for agent, start in zip(agents, starts, strict=True):
                agent.restore(start)
                batch = make_batch(agent)
                for field, index, number in places:
                    batch[field] = batch[field].copy()
                    batch[field].reshape(-1)[index % batch[field].size] = number
                finite = all(np.isfinite(array).all() for array in batch.values())
                said.append(outcome(agent, batch))
            require(said[0] == said[1], f"backends differ: {said}")
            require(finite or said[0].startswith("`batch"), f"taken: {said[0]}")

    one()


class Injected(Exception):
    """The exception that is raised at a line."""


def _lines(agent: Any, batch: dict, stop_at: int | None = None) -> int:
    """Update with an exception at the `stop_at`-th line; how many lines there were."""
    count = 0

    def local(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if event == "line":
            if count == stop_at:
                sys.settrace(None)
                raise Injected(
                    f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                )
            count += 1
        return local

    def every(frame: Any, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(TRACED) else None

    sys.settrace(every)
    try:
        agent.update(batch)
    finally:
        sys.settrace(None)
    return count


def at_each_line(backend: str) -> Any:
    """An exception at a line of the update: each, or a fraction, evenly spaced."""

    def run(row: Row) -> None:
        agent, start = ready(backend)
        agent.restore(start)
        batch = make_batch(agent)
        before = all_bytes(agent)
        count = _lines(agent, batch)
        after = all_bytes(agent)
        require(after != before, "the update changed nothing")
        row.tries = max(1, round(count * row.fraction))
        row.note = f"of {count} lines that one update executes"
        for line in np.linspace(0, count - 1, row.tries).astype(int):
            agent.restore(start)
            with row.attempt(f"line {line}"):
                try:
                    _lines(agent, batch, int(line))
                except Injected as error:
                    where = str(error)
                else:
                    where = "nowhere"
                require(all_bytes(agent) in (before, after), f"half-done at {where}")

    return run


def interrupted(number: signal.Signals) -> Any:
    """A signal at a random time of an update, turned into an exception as usual."""

    def run(row: Row) -> None:
        made, starts = zip(*map(ready, BACKENDS), strict=True)
        draw = random.Random(0)

        def on_signal(*_: object) -> None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit

        old = signal.signal(number, on_signal)
        hits = 0
        try:
            for index in range(row.tries):
                agent, start = made[index % 2], starts[index % 2]
                agent.restore(start)
                batch, before = make_batch(agent), all_bytes(agent)
                agent.update(batch)
                after = all_bytes(agent)
                agent.restore(start)
                with row.attempt(f"{agent.framework}, try {index}"):
                    timer = threading.Timer(
                        draw.uniform(0.0, 0.012), os.kill, (os.getpid(), number)
                    )
                    try:
                        timer.start()
                        agent.update(batch)
                        timer.join()
                    except (KeyboardInterrupt, SystemExit):
                        hits += all_bytes(agent) == before
                    require(all_bytes(agent) in (before, after), "half-done")
        finally:
            signal.signal(number, old)
        row.note = f"{hits} before the update was committed"

    return run


def overflows(row: Row) -> None:
    """Advantages or returns too large for float32: the same answer of both."""
    given = [*map(ready, BACKENDS), ready("torch", dtype="float64")]
    draw = random.Random(1)
    only_in_one = 0
    for index in range(row.tries):
        field = draw.choice(("advantages", "returns"))
        size = 10.0 ** draw.uniform(15.0, 38.4)
        with row.attempt(f"{field} of {size:.1e}"):
            said = []
            for agent, start in given:
                agent.restore(start)
                batch = make_batch(agent)
                batch[field] = (batch[field] * size / 3.0).astype(np.float32)
                said.append(outcome(agent, batch))
            only_in_one += said[0] != said[2]
            require(said[0] == said[1], f"backends differ: {said}, try {index}")
    row.note = f"float32 alone overflowed in {only_in_one}"


def degenerate(row: Row) -> None:
    """No curvature, no advantage, one sample; any damping and radius."""
    dampings = (0.0, 1e-12, 1e-3, 1e6)[: max(1, row.tries // 50)]
    agents = {(b, d): make_agent(b, cg_damping=d) for b in BACKENDS for d in dampings}
    starts = {key: agent.snapshot() for key, agent in agents.items()}
    draw = random.Random(2)
    for index in range(row.tries):
        kind = ("one sample", "equal", "no advantage", "dead", "plain")[index % 5]
        damping, radius = draw.choice(dampings), 10.0 ** draw.uniform(-12.0, 1.0)
        with row.attempt(f"{kind}, damping {damping:g}, radius {radius:.1e}"):
            for backend in BACKENDS:
                agent = agents[backend, damping]
                agent.restore(starts[backend, damping])
                batch = make_batch(agent, 1 if kind == "one sample" else SIZE, index)
                if kind == "equal":
                    batch = {n: np.repeat(a[:1], SIZE, 0) for n, a in batch.items()}
                elif kind == "no advantage":
                    batch["advantages"] = np.zeros_like(batch["advantages"])
                elif kind == "dead":
                    batch["obs"] = np.zeros_like(batch["obs"])
                said = outcome(agent, batch, radius)
                require("batch[" not in said, f"refused: {said}")


SCENARIOS = [
    Scenario("update", "NaN, ±infinity, ±1e38 or 1e-45 in a batch", 1000, poisoned),
    Scenario("update", "exception at a line, PyTorch", 0, at_each_line("torch")),
    Scenario("update", "exception at a host step, JAX", 0, at_each_line("jax")),
    Scenario("update", "KeyboardInterrupt", 200, interrupted(signal.SIGINT)),
    Scenario("update", "SIGTERM", 200, interrupted(signal.SIGTERM)),
    Scenario("update", "overflow of float32", 200, overflows),
    Scenario("update", "singular Fisher, no advantages, one sample", 500, degenerate),
]
