"""An environment in a process of its own, and what is said of one that fails.

The process imports no framework of deep learning, so it starts fast and holds no
thread or device that a fork could harm.
"""

import contextlib
import fcntl
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import gymnasium
import numpy as np

from trpo.common.signals import ASKING
from trpo.environments.contract import (
    FINAL_INFO,
    FINAL_OBS,
    RESET,
    STEP,
    kept_infos,
)


CONSTRUCTOR, CLOSE = "constructor", "close"
PROBE = "probe"
"""Asks for what `SeededEpisodes.lasting` says."""
ADVICE = {
    CONSTRUCTOR: "Make it alone, by gymnasium.make, to see it fail there.",
    RESET: "Reset it alone with seeds of your own to see it fail there.",
    STEP: (
        "The state of the last update is kept. Mend the environment, or have workers "
        "that fail replaced: vectorization='async' or 'ray' and environment_restarts."
    ),
    CLOSE: "All other environments were closed, and all processes have ended.",
}
# Of what an environment returns: Gymnasium has made it, so that no other one is better.
CONTRACT_ADVICE = (
    "The state of the last update is kept. Mend the environment, or have a wrapper "
    "give what Gymnasium asks for."
)


class EnvironmentWorkerError(RuntimeError):
    """An environment failed, in this process or in its worker.

    Args:
        index: Of the environment in its vector; None of a vector as a whole.
        phase: "constructor", "reset", "step" or "close".
        reason: What happened, in a line.
        original: The traceback where it happened, as text; empty if there is none, as
            of a process that was killed.
        env_id: Of the environment; empty if it is not known.
        step: Of its episode, from 1; None if it was in none.
    """

    index: int | None
    phase: str
    reason: str
    original: str
    env_id: str
    step: int | None

    def __init__(
        self,
        index: int | None,
        phase: str,
        reason: str,
        original: str = "",
        env_id: str = "",
        step: int | None = None,
    ) -> None:
        super().__init__(index, phase, reason, original, env_id, step)
        self.index, self.phase, self.env_id, self.step = index, phase, env_id, step
        self.reason, self.original = reason, original
        if original:
            self.add_note(original.rstrip())

    def __str__(self) -> str:
        which = "the vector" if self.index is None else f"environment {self.index}"
        step = "" if self.step is None else f"step {self.step} of its episode"
        where = ", ".join(filter(None, (self.env_id, step)))
        return (
            f"{which} failed in its {self.phase}: {self.reason}"
            f"{f' ({where})' if where else ''}. {self.advice}"
        )

    @property
    def advice(self) -> str:
        """What to do."""
        return ADVICE[self.phase]

    @classmethod
    def of(
        cls,
        index: int | None,
        phase: str,
        error: BaseException,
        env_id: str = "",
        step: int | None = None,
    ) -> "EnvironmentWorkerError":
        """The error that says of `error` where it was raised."""
        if isinstance(error, EnvironmentWorkerError):
            return error
        original = "".join(traceback.format_exception(error))
        # An exception's own text may fail, as may all else about it.
        reason = traceback.format_exception_only(error)[-1].strip().rstrip(".")
        return cls(index, phase, reason, original, env_id, step)


class EnvironmentContractError(EnvironmentWorkerError, ValueError):
    """An environment returned what Gymnasium's interface does not allow."""

    @property
    def advice(self) -> str:
        """What to do."""
        return CONTRACT_ADVICE


def serve(
    pipe: connection.Connection,
    life: connection.Connection,
    maker: Callable[[], gymnasium.Env],
    index: int,
) -> None:
    """Make an environment and answer requests until `pipe` closes.

    A request is (ticket, command, argument), an answer (ticket, error or None, value).

    Args:
        pipe: To the process that trains.
        life: Likewise; this process ends, whatever it does, when that one has.
        maker: Makes the environment.
        index: Of the environment in its vector.
    """
    # Ctrl-C and a scheduler's signals reach all processes of a run. The one that
    # trains ends its update first, for which it needs the environments.
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
    _end_with(life)
    ticket, phase, env = 0, CONSTRUCTOR, None
    try:
        env = maker()
        pipe.send((ticket, None, known_of(env)))
        while phase != CLOSE:
            ticket, phase, argument = pipe.recv()
            pipe.send((ticket, None, answer(env, phase, argument)))
    except (EOFError, ConnectionError):
        return  # Nobody listens any more.
    except BaseException as error:
        failure = EnvironmentWorkerError.of(index, phase, error)
        with contextlib.suppress(OSError):
            pipe.send((ticket, failure, None))
    finally:
        if env is not None and phase != CLOSE:
            with contextlib.suppress(BaseException):
                env.close()


def known_of(
    env: Any,
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any], int | None]:
    """What whoever steps an environment has to know: spaces, and its time limit."""
    return env.observation_space, env.action_space, getattr(env, "time_limit", None)


def answer(env: gymnasium.Env, command: str, argument: Any) -> Any:
    """Do an environment's "reset", "step", "probe" or "close", and return the result.

    A step that ends an episode also resets, as of Gymnasium's vectors in that mode.

    Infos are those that are read: others may be of any size, and of any name.
    """
    if command == STEP:
        obs, reward, terminated, truncated, info = env.step(argument)
        info = kept_infos(info)
        if terminated or truncated:
            # As Gymnasium's vectors: all others are of the next episode.
            final = {FINAL_OBS: obs} | ({FINAL_INFO: info} if info else {})
            obs, info = env.reset()
            info = kept_infos(info) | final
        return obs, reward, terminated, truncated, info
    if command == RESET:
        obs, info = env.reset(**argument)
        return obs, kept_infos(info)
    if command == PROBE:
        return env.lasting(**argument)  # pyright: ignore[reportAttributeAccessIssue]
    assert command == CLOSE
    return env.close()


def add_info(
    infos: dict[str, Any], info: dict[str, Any], index: int, size: int
) -> dict[str, Any]:
    """Add one environment's infos to those of a vector of `size`, as they are.

    As Gymnasium's vectors, by name and `_name`, but of no common type: that of the
    first environment may not hold what another has.
    """
    for name, value in info.items():
        if name == FINAL_INFO:
            infos[name] = add_info(infos.get(name, {}), value, index, size)
        else:
            infos.setdefault(name, np.full(size, None))[index] = value
        infos.setdefault(f"_{name}", np.zeros(size, dtype=bool))[index] = True
    return infos


def _end_with(life: connection.Connection) -> None:
    """Have this process end when the other end of `life` does, whatever it does then.

    Nothing is ever written to it.
    """
    if hasattr(fcntl, "F_SETSIG"):
        # Linux: by the kernel, for a thread would wait for a step that never gives
        # Python's lock back.
        fcntl.fcntl(life.fileno(), fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life.fileno(), fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life.fileno(), fcntl.F_SETFL, os.O_ASYNC)

    def wait() -> None:
        connection.wait([life])
        os._exit(1)

    # Elsewhere, and if it has ended by now.
    threading.Thread(target=wait, daemon=True).start()
