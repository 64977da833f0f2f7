"""An environment that fails as it is told to."""

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np

from trpo.common.random_streams import Purpose
from trpo.environments.seeded import SeededEpisodes


class OddError(Exception):
    """One that can't be made from a message, as Gymnasium tries to."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"odd {code}: {hint}")


# What a third step returns in place of what Gymnasium says: position, value.
BREACHES: dict[str, tuple[int, Any]] = {
    "no reward": (1, None), "a reward of two": (1, np.ones(2)),
    "a dict for a reward": (1, {"speed": 1.0}), "text for a reward": (1, "1"),
    "text for a flag": (2, "no"), "a number for a flag": (3, 0.5),
    "a list for infos": (4, []), "six values": (5, None),
}  # fmt: skip


class Faulty(gymnasium.Env):
    """Counts to ten; fails in a phase, in the third step if that is it.

    Args:
        kind: What goes wrong.
        phase: When.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, kind: str = "", phase: str = "") -> None:
        self.kind, self.phase = kind, phase
        self.buffer, self.steps = np.zeros(2), 0
        self._fail("constructor")

    def _fail(self, phase: str) -> None:
        if phase != self.phase:
            return
        if self.kind == "raise":
            raise RuntimeError("planted in the environment")
        if self.kind == "custom exception":
            raise OddError(7, hint="planted in the environment")
        if self.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.kind == "hanging":
            time.sleep(3600)
        if self.kind == "slow":
            time.sleep(0.1)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._fail("reset")
        self.count, self.draw = 0, float(self.np_random.random())
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Count on."""
        self.count += 1
        self.steps += 1
        infos: dict = {}
        obs: Any = self._obs()
        if self.steps == 3:
            self._fail("step")
            obs = {
                "wrong shape": np.zeros(3),
                "wrong dtype": np.array(["a", "b"]),
                "NaN": np.array([0.0, np.nan]),
            }.get(self.kind, obs)
        if self.kind == "huge infos":
            infos = {"blob": np.zeros(2**24), "more": lambda: None}
        result = (obs, self.draw + self.count, self.count == 10, False, infos)
        if self.steps == 3 and self.kind in BREACHES:
            at, value = BREACHES[self.kind]
            broken: Any = (*result[:at], value, *result[at + 1 :])
            return broken
        return result

    def _obs(self) -> np.ndarray:
        self.buffer[:] = self.draw, self.count
        return self.buffer if self.kind == "reused buffer" else self.buffer.copy()

    def close(self) -> None:
        """Fail, if that is the phase."""
        self._fail("close")


def make(kind: str, phase: str, index: int) -> gymnasium.Env:
    """Environment `index` of a vector, with seeded episodes."""
    return SeededEpisodes(Faulty(kind, phase), 0, index, Purpose.TRAINING_RESET)
