"""Environments as actors of a Ray cluster, on any of its machines.

Ray is an optional dependency (`pip install "trpo[ray]"`). The program that trains is
one, as with processes: what the actors' environments see depends on their seeds alone,
so that a run is the same wherever they live.
"""

import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from trpo.environments import ray_cluster
from trpo.environments.environment_worker import (
    CONSTRUCTOR,
    EnvironmentWorkerError,
    answer,
    known_of,
)
from trpo.environments.process_workers import Answer, Maker


class EnvironmentActor:
    """One environment, made by the first request; what Ray's actors are."""

    def __init__(self, maker: Maker, index: int) -> None:
        self._maker, self._index = maker, index
        self._env: Any = None

    def ask(
        self, command: str, argument: Any
    ) -> tuple[EnvironmentWorkerError | None, Any]:
        """Answer a request, with an error or a value, as `environment_worker.serve`."""
        try:
            if command == CONSTRUCTOR:
                self._env = self._maker()
                return None, known_of(self._env)
            return None, answer(self._env, command, argument)
        except BaseException as error:
            return EnvironmentWorkerError.of(self._index, command, error), None


class RayWorkers:
    """Each environment in an actor; see `worker_processes.Workers`.

    Connects to the cluster that the environment variable RAY_ADDRESS names ("auto": the
    one this machine belongs to), else starts one here, while this program runs.

    Args:
        makers: Make one environment each. All nodes must have what they import.

    Raises:
        ValueError: Ray is not installed, or RAY_ADDRESS names no cluster.
    """

    def __init__(self, makers: Sequence[Maker]) -> None:
        ray_cluster.require_ray("vectorization")
        ray = _connected()
        self._ray: Any = ray
        # Spread: the machines' cores are what the environments are here for.
        options = {"max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._kind = ray.remote(**options)(EnvironmentActor)
        self._makers = makers
        self._actors: list[Any] = [None] * len(makers)
        # Pending answer -> worker and ticket.
        self._pending: dict[Any, tuple[int, int]] = {}

    def start(self, index: int) -> None:
        """See `Workers`."""
        self._actors[index] = self._kind.remote(self._makers[index], index)
        self.send(index, 0, CONSTRUCTOR, None)

    def send(self, index: int, ticket: int, command: str, argument: Any) -> bool:
        """See `Workers`; that an actor has ended shows in its answer."""
        if self._actors[index] is None:
            return False
        pending = self._actors[index].ask.remote(command, argument)
        self._pending[pending] = index, ticket
        return True

    def receive(self, seconds: float) -> list[Answer]:
        """See `Workers`."""
        seconds, pending = max(0.0, seconds), list(self._pending)
        if not pending:
            time.sleep(seconds)
            return []
        wait, count = self._ray.wait, len(pending)
        ready, rest = wait(pending, num_returns=1, timeout=seconds)
        if rest:
            # And all others that have come by now.
            ready, _ = wait(pending, num_returns=count, timeout=0.0)
        return [self._received(reference) for reference in ready]

    def _received(self, reference: Any) -> Answer:
        index, ticket = self._pending.pop(reference)
        try:
            error, value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._actors[index] = None
            return Answer(index, None, None, _how(error))
        return Answer(index, ticket, error, value)

    def end_of(self, index: int) -> str:
        """See `Workers`."""
        return "its actor ended"

    def living(self) -> list[int]:
        """See `Workers`."""
        return [i for i, actor in enumerate(self._actors) if actor is not None]

    def end(self, index: int) -> None:
        """See `Workers`."""
        if self._actors[index] is not None:
            self._ray.kill(self._actors[index])
            self._actors[index] = None
        # What it has not answered would be taken for the next one's answer.
        kept = {r: at for r, at in self._pending.items() if at[0] != index}
        self._pending = kept

    def close(self) -> None:
        """See `Workers`; others may use the connection to the cluster."""
        for index in self.living():
            self.end(index)
        self._pending = {}


def _connected() -> Any:
    """The module `ray`, connected to the cluster of RAY_ADDRESS, or to a new one.

    Raises:
        ValueError: RAY_ADDRESS names none.
    """
    ray: Any = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return ray
    # Before Ray is imported, for it to know how it is to authenticate itself.
    address = os.environ.get("RAY_ADDRESS") or ray_cluster.start()[0]
    ray = importlib.import_module("ray")
    try:
        ray_cluster.connect(address)
    except ConnectionError as error:
        raise ValueError(
            f"`vectorization`: expected a Ray cluster at RAY_ADDRESS={address}, "
            f"found none: {error}"
        ) from error
    return ray


def _how(error: Exception) -> str:
    """One line that says how an actor failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"its actor was lost: {' '.join(lines[:1])}".rstrip(".: ")
