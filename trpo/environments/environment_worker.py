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

from trpo.common.signals import ASKING
from trpo.environments.action_masks import KEY as ACTION_MASK
from trpo.environments.step_costs import FINAL_INFO, cost_info


UNRESTORED = "unrestored"
"""In the infos of a reset whose actions could not be replayed."""
CONSTRUCTOR, RESET, STEP, CLOSE = "constructor", "reset", "step", "close"
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


class EnvironmentWorkerError(RuntimeError):
    """An environment failed, in this process or in its worker.

    Args:
        index: Of the environment in its vector.
        phase: "constructor", "reset", "step" or "close".
        reason: What happened, in a line.
        original: The traceback where it happened, as text; empty if there is none, as
            of a process that was killed.
    """

    def __init__(self, index: int, phase: str, reason: str, original: str = "") -> None:
        super().__init__(index, phase, reason, original)
        self.index, self.phase = index, phase
        self.reason, self.original = reason, original
        if original:
            self.add_note(original.rstrip())

    def __str__(self) -> str:
        return (
            f"environment {self.index} failed in its {self.phase}: {self.reason}. "
            f"{ADVICE[self.phase]}"
        )

    @classmethod
    def of(
        cls, index: int, phase: str, error: BaseException
    ) -> "EnvironmentWorkerError":
        """The error that says of `error` where it was raised."""
        if isinstance(error, cls):
            return error
        original = "".join(traceback.format_exception(error))
        # An exception's own text may fail, as may all else about it.
        reason = traceback.format_exception_only(error)[-1].strip().rstrip(".")
        return cls(index, phase, reason, original)


def kept_infos(info: dict[str, Any]) -> dict[str, Any]:
    """The infos that are read; others, which may be of any size, are left out."""
    names = ("final_obs", ACTION_MASK, UNRESTORED)
    kept = {name: info[name] for name in names if name in info}
    return kept | cost_info(info)


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
    _end_with(life)
    ticket, phase, env = 0, CONSTRUCTOR, None
    try:
        env = maker()
        pipe.send((ticket, None, (env.observation_space, env.action_space)))
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


def answer(env: gymnasium.Env, command: str, argument: Any) -> Any:
    """Do an environment's "reset", "step", "probe" or "close", and return the result.

    A step that ends an episode also resets, as of Gymnasium's vectors in that mode.
    """
    if command == CLOSE:
        return env.close()
    if command == PROBE:
        return env.lasting(**argument)  # pyright: ignore[reportAttributeAccessIssue]
    if command == RESET:
        obs, info = env.reset(**argument)
        return obs, kept_infos(info)
    obs, reward, terminated, truncated, info = env.step(argument)
    infos = kept_infos(info)
    if terminated or truncated:
        # As Gymnasium's vectors: all others are of the next episode.
        infos = {"final_obs": obs}
        if cost := cost_info(info):
            infos[FINAL_INFO] = cost
        obs, info = env.reset()
        infos |= kept_infos(info)
    return obs, reward, terminated, truncated, infos


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
