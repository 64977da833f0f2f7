"""Bad input and numerical trouble: both backends answer alike and change nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from parity_tests import bridges
from parity_tests.problems import cases
from parity_tests.reference.problem import Problem
from trpo.data.report import StepStatus
from trpo.spaces.action_heads import SQUASHED_GAUSSIAN
from trpo.spaces.spaces import policy_spec


FRAMEWORKS = ("torch", "jax")


def _batch(dtype: str = "float32") -> dict[str, np.ndarray]:
    problem = cases.build("trained")
    return {name: array.astype(dtype) for name, array in problem.batch.items()}


def _with(name: str, change: Callable[[np.ndarray], Any]) -> dict[str, np.ndarray]:
    batch = _batch()
    batch[name] = change(batch[name].copy())
    return batch


def _set(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[3, 0] = value
        return array

    return change


def _without(name: str) -> dict[str, np.ndarray]:
    batch = _batch()
    del batch[name]
    return batch


def bad_batches() -> dict[str, dict[str, np.ndarray]]:
    """Name -> a batch that `update` has to refuse."""
    batches = {}
    for name in ("obs", "actions", "log_probs", "returns", "advantages"):
        batches[f"NaN in {name}"] = _with(name, _set(np.nan))
        batches[f"infinity in {name}"] = _with(name, _set(-np.inf))
        batches[f"no {name}"] = _without(name)
        batches[f"{name} a row short"] = _with(name, lambda a: a[:-1])
        batches[f"{name} with three axes"] = _with(name, lambda a: a[None])
        batches[f"{name} of text"] = _with(name, lambda a: a.astype(str))
    batches["returns beyond float32"] = _with(
        "returns", lambda a: np.full(a.shape, 1e300)
    )
    batches["obs of another width"] = _with("obs", lambda a: a[:, :-1])
    batches["no samples"] = {name: array[:0] for name, array in _batch().items()}
    return batches


def bad_states(state: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Name -> a state that `set_state` has to refuse."""
    weight = "policy.layers.0.weight"
    return {
        "missing name": {n: a for n, a in state.items() if n != weight},
        "unknown name": {**state, "policy.extra": np.zeros(1, np.float32)},
        "transposed": {**state, weight: state[weight].T.copy()},
        "another dtype": {**state, weight: state[weight].astype(np.float64)},
        "NaN": {**state, weight: np.full_like(state[weight], np.nan)},
    }


def snapshot(agent: Any) -> dict[str, bytes]:
    """The agent's whole state as bytes."""
    return {name: array.tobytes() for name, array in agent.get_state().items()}


def check_refusals() -> None:
    """Both backends raise the same ValueError, and nothing has changed."""
    agents = {
        f: bridges.make_agent(f, cases.build("trained"), "float32") for f in FRAMEWORKS
    }
    calls: dict[str, Callable[[Any], Any]] = {}
    for name, batch in bad_batches().items():
        calls[name] = lambda agent, batch=batch: agent.update(batch)
    for name, state in bad_states(agents["torch"].get_state()).items():
        calls[f"state: {name}"] = lambda agent, state=state: agent.set_state(state)
    for shape in ((5,), (0, 5), (2, 4), (1, 2, 5)):
        calls[f"act on {shape}"] = lambda agent, s=shape: agent.act(
            np.zeros(s, np.float32)
        )
    for name, call in calls.items():
        messages = []
        for framework, agent in agents.items():
            before = snapshot(agent)
            messages.append(_refusal(call, agent, f"{name}, {framework}"))
            assert snapshot(agent) == before, f"{name}, {framework}: state changed"
        assert messages[0] == messages[1], f"{name}: {messages}"


def check_discrete_actions() -> None:
    """Both refuse an action that does not exist; the start of a space is added."""
    for name in ("choices", "switches"):
        problem, messages = cases.build(name), []
        for framework in FRAMEWORKS:
            agent = bridges.make_agent(framework, problem, "float32")
            before = snapshot(agent)
            for wrong in (-1.0, 0.5, 5.0):
                batch = {n: a.astype("float32") for n, a in problem.batch.items()}
                batch["actions"][3, 0] = wrong
                where = f"{name}, action {wrong}, {framework}"
                messages.append(_refusal(lambda a, b=batch: a.update(b), agent, where))
            assert snapshot(agent) == before, f"{name}, {framework}: state changed"
        assert messages[:3] == messages[3:], messages
    box = spaces.Box(-1.0, 1.0, (2,))
    for space in (spaces.Discrete(2, start=7), spaces.MultiDiscrete([2], start=[7])):
        sent = policy_spec(box, space).to_environment(np.array([[0.0], [1.0]]))
        assert sent.reshape(-1).tolist() == [7, 8], f"{space}: {sent}"


def check_action_masks() -> None:
    """Both refuse masks that don't fit or forbid all, and forbidden actions."""
    for name in ("masked", "switches_masked"):
        problem, messages = cases.build(name), []
        right = {n: a.astype("float32") for n, a in problem.batch.items()}
        sizes = problem.case.head.options
        closed, odd = (right["action_mask"].copy() for _ in range(2))
        closed[4, : sizes[0]], odd[5, 0] = 0.0, 0.5
        # The opposite of what was done, where it was the first option.
        taken = right["action_mask"].copy()
        row = int(np.flatnonzero(right["actions"][:, 0] == 0)[0])
        taken[row, : sizes[0]] = np.eye(sizes[0])[1]
        wrong = [closed, odd, taken, right["action_mask"][:, 1:], closed[:-1]]
        for framework in FRAMEWORKS:
            agent = bridges.make_agent(framework, problem, "float32")
            before = snapshot(agent)
            for i, mask in enumerate(wrong):
                where, batch = (
                    f"{name}, mask {i}, {framework}",
                    right | {"action_mask": mask},
                )
                messages.append(_refusal(lambda a, b=batch: a.update(b), agent, where))
            assert snapshot(agent) == before, f"{name}, {framework}: state changed"
        assert messages[: len(wrong)] == messages[len(wrong) :], messages
        for message, phrase in zip(
            messages, ("at least one", "0 and 1", "allows", "shape", "shape"),
            strict=False,
        ):  # fmt: skip
            assert phrase in message, message


def check_squashed_actions() -> None:
    """Squashed actions reach both bounds and their middle, and none beyond."""
    observed = spaces.Box(-1.0, 1.0, (2,))
    box = spaces.Box(np.float32([-3.0, 1.0]), np.float32([1.0, 1e38]))
    spec = policy_spec(observed, box, SQUASHED_GAUSSIAN)
    sent = spec.to_environment(np.float32([[-50, -50], [0, 0], [50, 50]]))
    bounds_and_middle = [box.low, 0.5 * box.low + 0.5 * box.high, box.high]
    np.testing.assert_array_equal(sent, bounds_and_middle)
    half = spec.to_environment(np.full((1, 2), np.arctanh(0.5)))
    np.testing.assert_allclose(half, [0.25 * box.low + 0.75 * box.high], rtol=1e-6)
    assert box.contains(half[0])


def _refusal(call: Callable[[Any], Any], agent: Any, name: str) -> str:
    try:
        call(agent)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{name}: accepted")


def troubles() -> dict[str, tuple[Problem, dict, int, bool]]:
    """Name -> problem, changed batch fields, status, whether every byte must stay."""
    trained, rejected = cases.build("trained"), cases.build("rejected")
    n = trained.case.batch
    huge = np.resize((3e38, -3e38), (n, 1))
    return {
        "zero advantages": (trained, {"advantages": np.zeros((n, 1))}, 4, False),
        "overflow": (
            trained,
            {"advantages": huge},
            3,
            True,
        ),
        "ratio overflow": (trained, {"log_probs": np.full((n, 1), -200.0)}, 3, True),
        "no candidate": (rejected, {}, 1, False),
    }


def check_statuses() -> None:
    """Both report the same status, and change no parameter if no step is taken."""
    for name, (problem, fields, status, all_bytes) in troubles().items():
        for framework in FRAMEWORKS:
            agent = bridges.make_agent(framework, problem, "float32")
            before = snapshot(agent)
            batch = {n: a.astype("float32") for n, a in problem.batch.items()}
            batch |= {n: a.astype("float32") for n, a in fields.items()}
            metrics = agent.update(batch)
            where = f"{name}, {framework}"
            assert metrics["policy/status"] == status, f"{where}: {metrics}"
            kept = {n for n in before if all_bytes or n.startswith("policy.")}
            after = snapshot(agent)
            changed = [n for n in kept if after[n] != before[n]]
            assert not changed, f"{where}: {changed}"
            if not all_bytes:
                assert any(after[n] != before[n] for n in before if "value." in n)


def check_compiled_updates() -> None:
    """JAX's compiled update itself keeps the state it had before non-finite numbers."""
    for name, (problem, fields, _, all_bytes) in troubles().items():
        if not all_bytes:
            continue
        agent = bridges.make_agent("jax", problem, "float32")
        before, config = snapshot(agent), agent.config
        batch = agent._check_batch(_batch() | fields)
        orders = np.tile(np.arange(problem.case.batch), (config.value_epochs, 1))
        report = agent.backend.update(batch, orders, config.step_numbers())
        assert int(report.status) == StepStatus.NON_FINITE, name
        after = snapshot(agent)
        changed = [field for field in before if after[field] != before[field]]
        assert not changed, f"{name}: {changed}"


def check_huge_returns() -> None:
    """Squared errors that overflow: the same status, and only finite state."""
    problem = cases.build("trained")
    for size in (1e18, 1e25, 1e30, 3e38):
        statuses = []
        for framework in FRAMEWORKS:
            agent = bridges.make_agent(framework, problem, "float32")
            batch = _with("returns", lambda a, size=size: np.full_like(a, size))
            statuses.append(agent.update(batch)["policy/status"])
            state = agent.get_state()
            assert all(np.isfinite(array).all() for array in state.values())
        assert statuses[0] == statuses[1], f"returns of {size}: {statuses}"


CHECKS: dict[str, Callable[[], None]] = {
    "huge returns": check_huge_returns,
    "compiled updates": check_compiled_updates,
    "discrete actions": check_discrete_actions,
    "action masks": check_action_masks,
    "squashed actions": check_squashed_actions,
    "refusals": check_refusals,
    "statuses": check_statuses,
}
