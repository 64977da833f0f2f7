"""A vector of environments shared out over the cores of this machine.

Processes, since threads gain nothing: a step of MuJoCo's environments releases Python's
lock for two thirds of its time, but each wait for the lock costs what that saves.
"""

import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from trpo.environment_worker import (
    RESET,
    STEP,
    LeanVectorEnv,
    Maker,
    Memory,
    Worker,
    step_on_board,
)


class ParallelVectorEnv(VectorEnv):
    """Environments in this process and in one worker for each further core.

    Each process steps an equal share of them, one after the other, as a
    `LeanVectorEnv`: the results are the same, bit for bit. Processes exchange arrays
    through shared memory and poll for each other for up to a millisecond, so that a
    step costs a few microseconds more than that of the largest share. With
    more busy processes than cores that turns: each step waits for the slowest of all,
    and "sync" is faster.

    Autoreset mode, infos and errors are those of `LeanVectorEnv`; an error of an
    environment in a worker has its traceback there as a note.

    Args:
        makers: Make one environment each; they are sent to processes. The spaces of
            observations and actions are boxes.
        num_processes: This one included; by default one for each core that this
            process may use, and at most one for each environment.
    """

    def __init__(
        self, makers: Sequence[Maker], num_processes: int | None = None
    ) -> None:
        size = len(makers)
        count = min(size, num_processes or available_cores())
        borders = [size * k // count for k in range(count + 1)]
        parts = [slice(*pair) for pair in itertools.pairwise(borders)]
        self._workers: list[Worker] = []
        # Here first: what can't be made fails in the caller's own process.
        self._own = LeanVectorEnv(makers[parts[0]])
        self.num_envs, self.metadata = size, self._own.metadata
        self.single_action_space = self._own.single_action_space
        self.single_observation_space = self._own.single_observation_space
        self.action_space = batch_space(self.single_action_space, size)
        self.observation_space = batch_space(self.single_observation_space, size)
        # Never forked from this process: JAX's threads would deadlock in the child.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        memory = Memory(context, self._own, size)
        self._board, self._own_board = memory.board(slice(None)), memory.board(parts[0])
        self._own_part = parts[0]
        self._workers += [Worker(context, makers, memory, p) for p in parts[1:]]
        try:
            self._finish()
        except BaseException:
            self.close()
            raise

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments; arguments are those of Gymnasium's vectors."""
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        for worker in self._workers:
            worker.begin(RESET, seed[worker.part], options)
        with self._finishing():
            own = self._own.reset(seed=list(seed[self._own_part]), options=options)[0]
            self._own_board.obs[:] = own
        return self._board.obs.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all environments by `actions`, cast to the dtype of their space."""
        board = self._board
        board.actions[:] = actions
        for worker in self._workers:
            worker.begin(STEP)
        with self._finishing():
            step_on_board(self._own, self._own_board)
        infos: dict[str, Any] = {}
        done = board.terminated | board.truncated
        for i in np.flatnonzero(done):
            final = {"final_obs": board.final_obs[i].copy()}
            infos = self._add_info(infos, final, int(i))
        return (
            board.obs.copy(),
            board.rewards.copy(),
            board.terminated.copy(),
            board.truncated.copy(),
            infos,
        )

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        """Wait for all workers, also after an error here, which goes before theirs."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self._finish()
            raise
        self._finish()

    def _finish(self) -> None:
        errors = [worker.finish() for worker in self._workers]
        for error in errors:
            if error is not None:
                raise error

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments and end the workers."""
        for worker in self._workers:
            worker.close()
        self._own.close(**kwargs)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
