"""The lean vector steps as Gymnasium's does; only infos are missing."""

import functools

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.make import make_environment, make_vector_environment
from trpo.environments.sync_vector import LeanVectorEnv


def makers(env_id):
    return [
        functools.partial(make_environment, env_id, seed=5, env_index=i)
        for i in range(4)
    ]


@pytest.mark.parametrize("name", ["Counter", "CounterReusedBuffer"])
def test_steps_and_final_observations_are_gymnasiums(name):
    of_each = makers(f"TrpoTest/{name}-v0")
    lean = LeanVectorEnv(of_each)
    plain = SyncVectorEnv(of_each, autoreset_mode=AutoresetMode.SAME_STEP)
    np.testing.assert_array_equal(lean.reset()[0], plain.reset()[0])
    generator, ended = np.random.default_rng(0), 0
    for _ in range(40):
        actions = generator.uniform(-1, 1, (4, 1)).astype(np.float32)
        *left, left_infos = lean.step(actions)
        *right, right_infos = plain.step(actions)
        for mine, theirs in zip(left, right, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        done = left[2] | left[3]
        assert ("final_obs" in left_infos) == bool(done.any())
        assert set(left_infos) <= {"final_obs", "_final_obs"}
        for i in np.flatnonzero(done):
            ended += 1
            assert left_infos["_final_obs"][i]
            np.testing.assert_array_equal(
                left_infos["final_obs"][i], right_infos["final_obs"][i]
            )
    assert ended > 20


def test_an_error_in_a_step_names_its_environment():
    env = make_vector_environment("TrpoTest/Counter-v0", 3, seed=0)
    env.reset()
    actions = np.array([[0.0], [0.0], [2.0]], dtype=np.float32)  # out of bounds
    with pytest.raises(EnvironmentWorkerError) as caught:
        env.step(actions)
    assert (caught.value.index, caught.value.phase) == (2, "step")
    assert isinstance(caught.value.__cause__, AssertionError)
