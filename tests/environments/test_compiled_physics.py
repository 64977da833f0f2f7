"""Environments of Brax and MuJoCo Playground, where these extras are installed.

Neither is among the packages of `make test`: install `trpo[brax,playground]` to run it.
"""

import importlib.util

import numpy as np
import pytest

from trpo.config.presets import preset_config
from trpo.environments.make import UnknownEnvironmentError, make_environment
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory


# The smallest of each.
ENVIRONMENTS = {
    "brax/inverted_pendulum": "brax",
    "playground/CartpoleBalance": "mujoco_playground",
}


# Brax warns of what it imports, and of itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_one_trains_compiled_as_the_host_steps_it(env_id, tmp_path):
    pytest.importorskip(ENVIRONMENTS[env_id])
    small = {"num_envs": 2, "rollout_steps": 8, "total_steps": 32, "value_epochs": 1}
    train_compiled_run(
        preset_config(env_id, eval_episodes=0, **small), tmp_path / "run"
    )
    checkpoint, broken = RunDirectory(tmp_path / "run").load()
    assert (checkpoint.step, broken) == (32, [])
    env = make_environment(env_id, seed=0)
    obs, _ = env.reset()
    after, reward, *ended, _ = env.step(np.ones(env.action_space.shape))
    assert obs.shape == after.shape == env.observation_space.shape
    assert np.isfinite([*after, reward]).all()
    assert (ended, bool((obs != after).any())) == ([False, False], True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_what_is_missing_or_unknown_is_named(env_id):
    library = env_id.partition("/")[0]
    if importlib.util.find_spec(ENVIRONMENTS[env_id]) is None:
        expected = rf'pip install "trpo\[{library}\]"'
    else:
        expected = f"expected an environment of {library}, such as {library}/"
    with pytest.raises(UnknownEnvironmentError, match=expected):
        make_environment(f"{library}/Nothing", seed=0)
