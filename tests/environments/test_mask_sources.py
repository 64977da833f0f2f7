"""Masks of other conventions: in the observation, or a method of the environment."""

import warnings

import gymnasium
import numpy as np
import pytest

from tests.agent.test_action_masks import player
from tests.support.counting_environments import TicTacToe
from trpo.environments.action_masks import ActionMaskError
from trpo.environments.environment_worker import (
    EnvironmentContractError,
    EnvironmentWorkerError,
)
from trpo.environments.make import make_environment, make_vector_environment
from trpo.environments.source import EnvironmentSource
from trpo.rollout.collector import RolloutCollector


class Bare(TicTacToe):
    """Says nothing in its infos."""

    def __init__(self, shared=False):
        super().__init__()
        self.mask_given = "right"

    def _info(self):
        return {}

    def _mask_now(self):
        if self.mask_given == "wrong":
            raise RuntimeError("planted")
        return (self.board == 0).astype(np.int8)


class ByMethod(Bare):
    buffer = np.zeros(9, np.int8)

    def action_masks(self):
        # One array for all environments, written to at each call.
        self.buffer[:] = self._mask_now()
        return self.buffer


class InObservation(Bare):
    observation_space = gymnasium.spaces.Dict(
        action_mask=gymnasium.spaces.MultiBinary(9), board=TicTacToe.observation_space
    )

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        return {"board": obs, "action_mask": self._mask_now()}, info

    def step(self, action):
        obs, *rest = super().step(action)
        return {"board": obs, "action_mask": self._mask_now()}, *rest


SOURCES = {"method": ByMethod, "observation": InObservation}


def collected(kind, where, steps=30, wraps=False):
    def maker():
        return gymnasium.wrappers.TimeLimit(kind(), 100) if wraps else kind()

    source = EnvironmentSource(maker, action_masks=where)
    env = make_vector_environment(source, 3, seed=5)
    return RolloutCollector(env).collect(player(), steps)


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("where", SOURCES)
def test_masks_are_those_of_the_infos_wherever_they_are(where, wraps):
    usual = collected(TicTacToe, "info")
    other = collected(SOURCES[where], where, wraps=wraps)
    for name in ("obs", "actions", "action_masks", "rewards", "terminated"):
        np.testing.assert_array_equal(getattr(usual, name), getattr(other, name))


@pytest.mark.parametrize("where", SOURCES)
def test_masks_that_nobody_asks_for_are_said_once(where):
    with pytest.warns(UserWarning, match=f"--action-masks {where}") as told:
        make_vector_environment(SOURCES[where], 3, seed=0).reset()
    assert len(told) == 1
    # One that has both shows them.
    with warnings.catch_warnings(action="error"):
        make_vector_environment(TicTacToe, 3, seed=0).reset()


@pytest.mark.parametrize("where", SOURCES)
def test_masks_that_are_not_there_are_refused_at_once(where):
    for kind in (TicTacToe, *(SOURCES[name] for name in SOURCES if name != where)):
        source = EnvironmentSource(kind, action_masks=where)
        with pytest.raises(ValueError, match=f"`action_masks`.*in its {where}"):
            make_environment(source, seed=0)


def test_masks_of_steps_alone_are_named_with_the_first_of_them():
    class Late(TicTacToe):
        made = 0

        def __init__(self):
            super().__init__()
            self.number, Late.made = Late.made, Late.made + 1

        def _info(self):
            info = super()._info()
            return info if self.number == 1 and (self.board != 0).sum() > 2 else {}

    with pytest.raises(ActionMaskError, match="first from environment 1 at step"):
        RolloutCollector(make_vector_environment(Late, 3, seed=5)).collect(player(), 9)


def test_a_mask_that_fails_is_named_with_its_environment():
    source = EnvironmentSource(ByMethod, action_masks="method")
    env = make_environment(source, seed=0, env_index=2)
    env.reset()
    env.unwrapped.mask_given = "wrong"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(EnvironmentContractError, match=r"environment 2 .*planted"):
        env.reset()


def test_without_them_an_illegal_move_fails_in_its_step():
    with (
        pytest.warns(UserWarning, match="forbidden actions are taken"),
        pytest.raises(EnvironmentWorkerError, match="an illegal move"),
    ):
        collected(ByMethod, "info")
