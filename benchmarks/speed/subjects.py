"""Our own agents as subjects of a measurement, behind the same door as the peers."""

import importlib
import math
from typing import Any, Protocol

import numpy as np

from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import Problem
from trpo.agent.make import load_backend
from trpo.config.run import TRPOConfig


EPOCHS = 10
MINIBATCH = 256
CG_ITERATIONS = 10
SHRINKING = 0.8


class Subject(Protocol):
    """Something whose update can be timed."""

    def reset(self) -> None:
        """Return to the problem's weights; not timed."""
        ...

    def update(self) -> None:
        """One update; returns when the device has finished."""
        ...

    def work(self) -> dict[str, float]:
        """What the last update did: `cg_iterations`, `candidates`, `accepted`."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Weights under canonical names."""
        ...


class AgentSubject:
    """A `TRPOAgent` of either backend, by its public interface.

    Args:
        cell: Subject, device, precision, mode and size.
        problem: Weights and batch.
        epochs: Critic epochs.
        cg_iterations: Most Fisher products; all are spent in "fixed" mode.
        dtype: Precision of weights.
        changes: More arguments of the agent.
    """

    def __init__(
        self,
        cell: Cell,
        problem: Problem,
        *,
        epochs: int = EPOCHS,
        cg_iterations: int = CG_ITERATIONS,
        dtype: str = "float32",
        **changes: Any,
    ) -> None:
        assert cell.size is not None
        backend, _, variant = cell.subject.partition("-")
        tolerance = 0.0 if cell.mode == "fixed" else TRPOConfig.cg_residual_tol
        arguments: dict[str, Any] = {
            "cg_iters": cg_iterations,
            "backtrack_coeff": SHRINKING,
            "value_epochs": epochs,
            "value_minibatch_size": MINIBATCH,
            "cg_residual_tol": tolerance,
            "matmul_precision": cell.precision,
            "dtype": dtype,
        }
        _, _, obs_dim, act_dim, layers = cell.size
        self.agent = load_backend(backend).TRPOAgent(
            obs_dim, act_dim, -1.0, 1.0, cell.device, layers, layers,
            **(arguments | changes),
        )  # fmt: skip
        self._start = self.agent.get_state()
        for name, array in problem.weights.items():
            self._start[name] = array.astype(self._start[name].dtype)
        self._batch = problem.batch
        self._metrics: dict[str, float] = {}
        if variant:
            self._compile(variant)

    def _compile(self, variant: str) -> None:
        import torch

        mode = "reduce-overhead" if variant == "cudagraphs" else "default"
        backend = self.agent.backend
        backend.update = torch.compile(backend.update, mode=mode)

    def reset(self) -> None:
        """Return to the problem's weights and a fresh optimiser."""
        self.agent.set_state(self._start)

    def update(self) -> None:
        """One update from NumPy arrays; the metrics are floats, so it has finished."""
        self._metrics = self.agent.update(self._batch)

    def work(self) -> dict[str, float]:
        """What the last update did."""
        frac = self._metrics["policy/line_search_frac"]
        accepted = self._metrics["policy/line_search_accepted"]
        candidates = 1 + round(math.log(frac) / math.log(SHRINKING)) if frac else 10
        return {
            "cg_iterations": self._metrics["cg/iterations"],
            "candidates": float(candidates),
            "accepted": accepted,
        }

    def state(self) -> dict[str, np.ndarray]:
        """Weights under canonical names."""
        return self.agent.get_state()


def make_subject(cell: Cell, problem: Problem, epochs: int = EPOCHS) -> Subject:
    """The subject of an update cell.

    Raises:
        ImportError: its framework is not installed.
    """
    if cell.subject in ("sb3-contrib", "tianshou"):
        peers = importlib.import_module("benchmarks.speed.peers")
        return peers.PEERS[cell.subject](cell, problem, epochs)
    return AgentSubject(cell, problem, epochs=epochs)


def precision_has_effect(backend: str, device: str, precision: str) -> bool:
    """Whether asking for `precision` changes a float32 matrix product at all."""
    module = importlib.import_module(f"trpo_{backend}.devices.device")
    a = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    results = []
    for name in ("float32", precision):
        with module.matmul_precision(name):
            results.append(_square(backend, module.resolve_device(device), a))
    return not np.array_equal(*results)


def _square(backend: str, device: Any, a: np.ndarray) -> np.ndarray:
    if backend == "torch":
        import torch

        on_device = torch.from_numpy(a).to(device)
        return (on_device @ on_device).cpu().numpy()
    import jax

    on_device = jax.device_put(a, device)
    # A new function, or the other precision's compilation would be reused.
    return np.asarray(jax.jit(lambda x: x @ x)(on_device))
