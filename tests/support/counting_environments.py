"""Tiny environments with known dynamics, registered under TrpoTest/…"""

import abc

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple


class Counter(gymnasium.Env):
    """Observation (episode seed's draw, steps so far); ends after `length` steps.

    Episode lengths are 2 + draw * 5, and odd ones are cut off instead of terminated.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, reuse_buffer=False, poison_step=None):
        self._buffer = np.zeros(2) if reuse_buffer else None
        self._poison_step = poison_step

    def _obs(self):
        values = np.array([self.draw, float(self.count)])
        if self._buffer is None:
            return values
        self._buffer[:] = values
        return self._buffer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draw = float(self.np_random.random())
        self.length = 2 + int(self.draw * 5)
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        assert abs(float(action[0])) <= 1.0, "action was not clipped"
        self.count += 1
        ended = self.count >= self.length
        odd = self.length % 2 == 1
        reward = self.draw + self.count + float(action[0])
        if self._poison_step == self.count:
            reward = float("nan")
        return self._obs(), reward, ended and not odd, ended and odd, {}


class Riddle(gymnasium.Env, abc.ABC):
    """Four questions an episode; each part of an action that is right pays 1.

    The seed draws the questions. Who knows the answers gets `best_return` in every
    episode: 4 times the parts of an action.
    """

    best_return: float

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._ask(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward = self._score(action)
        self.count += 1
        return self._ask(), reward, self.count == 4, False, {}

    def _score(self, action):
        return float(np.sum(np.equal(action, self.answer)))

    @abc.abstractmethod
    def _ask(self):
        """A new question; notes its answer."""


class Echo(Riddle):
    """MultiDiscrete of unequal sizes and starts: repeat the two digits shown."""

    observation_space = MultiDiscrete([3, 2])
    action_space = MultiDiscrete([3, 2], start=[5, -1])
    best_return = 8.0

    def _ask(self):
        shown = self.np_random.integers([3, 2])
        self.answer = shown + np.array([5, -1])
        return shown


class Switches(Riddle):
    """MultiBinary: switch on what is above zero."""

    observation_space = Box(-1.0, 1.0, (3,), np.float32)
    action_space = MultiBinary(3)
    best_return = 12.0

    def _ask(self):
        shown = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        self.answer = (shown > 0).astype(np.int8)
        return shown


class Pointer(Riddle):
    """Dict observation, actions from 1 on: one part says which other to go by."""

    observation_space = Dict(
        row=Discrete(2, start=7),
        flags=MultiBinary(2),
        size=Box(-1, 1, (1,), np.float32),
    )
    action_space = Discrete(3, start=1)
    best_return = 4.0

    def _ask(self):
        row, flags = int(self.np_random.integers(2)), self.np_random.integers(0, 2, 2)
        size = self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)
        # Row 0: how many flags are up. Row 1: whether the size is positive.
        self.answer = 1 + (int(size[0] > 0) if row else int(flags.sum()))
        return {"row": row + 7, "flags": flags.astype(np.int8), "size": size}


class Aim(Riddle):
    """Box of finite, unequal bounds: as far up each range as the number shown says."""

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(np.float32([0.0, -3.0]), np.float32([5.0, 1.0]))
    best_return = 8.0

    def _ask(self):
        shown = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        low, high = self.action_space.low, self.action_space.high
        self.answer = low + (high - low) * (0.5 + 0.45 * shown)
        return shown

    def _score(self, action):
        space = self.action_space
        miss = np.abs(action - self.answer) / (space.high - space.low)
        return float(np.sum(1.0 - miss))


class Pack(Riddle):
    """Dict and Tuple of actions: which, how far, and whether."""

    observation_space = Box(-1.0, 1.0, (3,), np.float32)
    action_space = Dict(
        which=Discrete(3, start=1),
        how=Tuple([Box(-2.0, 2.0, (1,), np.float32), MultiBinary(1)]),
    )
    best_return = 12.0

    def _ask(self):
        shown = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        which = 1 + int(shown[0] > -0.3) + int(shown[0] > 0.3)
        self.answer = (which, shown[1], int(shown[2] > 0))
        return shown

    def _score(self, action):
        which, far, whether = self.answer
        (moved,), (switch,) = action["how"]
        close = max(0.0, 1.0 - abs(float(moved) - far))
        return float(action["which"] == which) + close + float(switch == whether)


class TicTacToe(gymnasium.Env):
    """Noughts and crosses against random moves: 1 for a win, -1 for a loss.

    The board from the agent's side, 1 for its own marks; whoever the seed says begins.
    `info["action_mask"]` has the empty squares, of which none may be left at the end;
    any other move is an error.
    """

    observation_space = Box(-1.0, 1.0, (9,), np.float32)
    action_space = Discrete(9)
    LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7],
                      [2, 5, 8], [0, 4, 8], [2, 4, 6]])  # fmt: skip

    def __init__(self, mask="right"):
        self._mask = mask

    def _info(self):
        mask = (self.board == 0).astype(np.int8)
        if self._mask == "none after a step" and self.board.any():
            return {}
        if self._mask == "nothing allowed" and np.abs(self.board).sum() > 3:
            mask[:] = 0
        return {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.board = np.zeros(9, np.float32)
        if self.np_random.random() < 0.5:
            self._reply()
        return self.board.copy(), self._info()

    def _reply(self):
        self.board[self.np_random.choice(np.flatnonzero(self.board == 0))] = -1.0

    def _won(self, mark):
        return bool((self.board[self.LINES] == mark).all(1).any())

    def step(self, action):
        assert self.board[action] == 0, "an illegal move"
        self.board[action] = 1.0
        if not self._won(1.0) and (self.board == 0).any():
            self._reply()
        reward = float(self._won(1.0)) - float(self._won(-1.0))
        over = reward != 0 or not (self.board == 0).any()
        return self.board.copy(), reward, over, False, self._info()


class Spot(Riddle):
    """An image: in which quarter is the bright spot?"""

    observation_space = Box(0, 255, (8, 8, 1), np.uint8)
    action_space = Discrete(4)
    best_return = 4.0

    def _ask(self):
        self.answer = int(self.np_random.integers(4))
        image = self.np_random.integers(0, 100, (8, 8, 1)).astype(np.uint8)
        row, column = 4 * np.array(divmod(self.answer, 2)) + self.np_random.integers(
            0, 3, 2
        )
        image[row : row + 2, column : column + 2] = 255
        return image


class Gallery(Riddle):
    """Images of either order of axes among numbers: which is brighter, or not?"""

    observation_space = Dict(
        first=Box(0, 255, (5, 4, 3), np.uint8),
        reverse=Discrete(2),
        second=Box(0, 255, (3, 4, 5), np.uint8),
        size=Tuple([Box(-1.0, 1.0, (2,), np.float32)]),
    )
    action_space = Discrete(2)
    best_return = 4.0

    def _ask(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        obs = self.observation_space.sample()
        darker = "first" if self.np_random.random() < 0.5 else "second"
        obs[darker] //= 2
        self.answer = int((darker == "first") ^ bool(obs["reverse"]))
        return obs


class Picture(gymnasium.Env):
    """A Dict with a stack of images, which is not supported."""

    observation_space = Dict(image=Box(0, 255, (2, 8, 8, 3), np.uint8))
    action_space = Discrete(2)


def register():
    """Register the environments once."""
    for name, (environment, kwargs) in {
        "Counter-v0": (Counter, {}),
        "CounterReusedBuffer-v0": (Counter, {"reuse_buffer": True}),
        "CounterPoisoned-v0": (Counter, {"poison_step": 2}),
        "Echo-v0": (Echo, {}),
        "Switches-v0": (Switches, {}),
        "Pointer-v0": (Pointer, {}),
        "Aim-v0": (Aim, {}),
        "Pack-v0": (Pack, {}),
        "Spot-v0": (Spot, {}),
        "Gallery-v0": (Gallery, {}),
        "TicTacToe-v0": (TicTacToe, {}),
        "TicTacToeMissing-v0": (TicTacToe, {"mask": "none after a step"}),
        "TicTacToeClosed-v0": (TicTacToe, {"mask": "nothing allowed"}),
        "Picture-v0": (Picture, {}),
    }.items():
        env_id = f"TrpoTest/{name}"
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                environment,
                kwargs=kwargs,
                disable_env_checker=True,
            )


register()
