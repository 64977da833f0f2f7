"""Whole trainings that tests of different spaces have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.support.agents import BACKENDS
from trpo.config.run import TrainConfig
from trpo.rollout.evaluation import evaluate
from trpo.runs.directory import Moment, RunDirectory, load_agent
from trpo.training.trainer import Trainer


class Learned(NamedTuple):
    """A training's mean returns, and its agents.

    Attributes:
        before: mean return of 25 episodes at the beginning.
        after: at the end.
        in_other_backend: after the run was saved and loaded in the other backend.
        agent: that was trained.
        loaded: the other backend's.
    """

    before: float
    after: float
    in_other_backend: float
    agent: Any
    loaded: Any


def moment_of(trainer: Trainer) -> Moment:
    """A trainer as it is now, to be saved."""
    state, spec = trainer.get_state(), trainer.spec
    return Moment(trainer.config, spec, trainer.step_count, state, trainer.note(state))


def learn(config: TrainConfig, num_updates: int, directory: Path) -> Learned:
    """Train, save in `directory`, load in the other backend; evaluate each."""

    def score(agent: Any) -> float:
        return evaluate(agent, config.env_id, episodes=25, seed=1).mean

    trainer = Trainer(config)
    try:
        before = score(trainer.agent)
        trainer.run(num_updates=num_updates)
        run = RunDirectory(directory)
        run.save(moment_of(trainer))
    finally:
        trainer.close()
    other = BACKENDS[1 - BACKENDS.index(config.backend)]
    loaded, _ = load_agent(run.path, backend=other)
    return Learned(before, score(trainer.agent), score(loaded), trainer.agent, loaded)


def assert_resumes_exactly(
    config: TrainConfig,
    after_loading: Callable[[Trainer], None] = lambda trainer: None,
) -> None:
    """A run resumed after two updates ends in the bits of one that was not cut.

    Args:
        config: Of a run of more than two updates.
        after_loading: What else must hold of the resumed trainer before it goes on.
    """
    whole, half, resumed = (Trainer(config) for _ in range(3))
    try:
        whole.run()
        half.run(num_updates=2)
        assert resumed.set_state(half.get_state()) == ()
        after_loading(resumed)
        resumed.run()
        left, right = whole.get_state(), resumed.get_state()
    finally:
        for trainer in (whole, half, resumed):
            trainer.close()
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
