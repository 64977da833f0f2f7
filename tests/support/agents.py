"""What the tests of both backends' agents share."""

import functools
import importlib
from typing import Any

import numpy as np


BACKENDS = ("torch", "jax")
OBS_DIM, ACT_DIM = 3, 2


def agent_module(backend: str) -> Any:
    return importlib.import_module(f"trpo_{backend}.agent")


def make_agent(backend: str, **changes) -> Any:
    """A small agent of odd sizes, so that no two of its arrays can be confused."""
    arguments = {
        "obs_dim": OBS_DIM,
        "act_dim": ACT_DIM,
        "action_low": -1.0,
        "action_high": 1.0,
        "device": "cpu",
        "policy_layer_sizes": (5, 4),
        "critic_layer_sizes": (6,),
        "value_epochs": 2,
        "value_minibatch_size": 16,
    }
    return agent_module(backend).TRPOAgent(**(arguments | changes))


def make_batch(agent: Any, size: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Samples of the agent's own policy; no multiple of the minibatch size."""
    generator = np.random.default_rng(seed)
    obs = generator.standard_normal((size, agent.obs_dim)).astype(np.float32)
    actions, log_probs, _ = agent.act(obs)
    return {
        "obs": obs,
        "actions": actions,
        "log_probs": log_probs,
        "returns": generator.standard_normal(size).astype(np.float32),
        "advantages": generator.standard_normal(size).astype(np.float32),
    }


def native(backend: str, array: np.ndarray) -> Any:
    """`array` as one of the framework's own."""
    if backend == "torch":
        return importlib.import_module("torch").from_numpy(np.array(array))
    return importlib.import_module("jax.numpy").asarray(array)


def as_array(value: Any) -> np.ndarray:
    """A framework's array, or NumPy's, as NumPy's."""
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)


def fingerprint(agent: Any) -> dict[str, tuple]:
    """Every byte of the agent's state."""
    return {
        name: (array.dtype.str, array.shape, array.tobytes())
        for name, array in agent.get_state().items()
    }


def backend_module(backend: str, name: str) -> Any:
    return importlib.import_module(f"trpo_{backend}.{name}")


@functools.cache
def samples() -> dict[str, np.ndarray]:
    """A batch of the torch agent's, which every agent of its seed begins as."""
    return make_batch(make_agent("torch"))


def updated(backend: str = "torch", batch: Any = None, **changes) -> tuple:
    """An agent after one update, and its metrics."""
    agent = make_agent(backend, **changes)
    return agent, agent.update(batch or samples())


def policy_of(agent: Any) -> np.ndarray:
    """All weights of its policy."""
    state = agent.get_state()
    return np.concatenate(
        [a.reshape(-1) for n, a in state.items() if n.startswith("policy.")]
    )
