"""Faults of updates, disks and workers, and the defects that their rows have to see.

`make test` also runs a twentieth of `make torture`.
"""

import numpy as np
import pytest

from benchmarks.faults import disks, runs, workers
from benchmarks.faults.planted_defects import DEFECTS, losses
from benchmarks.faults.row import Row
from benchmarks.faults.untrusted import places
from trpo.rollout.collector import RolloutCollector


@pytest.mark.parametrize("scenario", disks.SCENARIOS, ids=lambda s: s.fault)
def test_a_disk_that_refuses_is_survived(scenario):
    row = scenario.at(0.1)
    assert row.lost == []
    assert row.survived == row.done
    assert row.survived > 0 or "not run" in row.note


@pytest.mark.parametrize("scenario", places.SCENARIOS, ids=lambda s: s.fault)
def test_what_a_run_directory_holds_touches_nothing_else(scenario):
    row = scenario.at(0.02)
    assert row.lost == []
    assert row.survived == row.done > 0


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_makes_its_row_fail(name):
    assert losses(name).lost


@pytest.mark.parametrize("run", [runs.stops_saved, runs.drops])
def test_a_nan_in_the_middle_of_a_run(run):
    row = Row(1)
    run(row)
    assert (row.survived, row.lost) == (1, [])


class Still:
    """Acts with zeros; V(s) = 1."""

    def sample_actions(self, obs, deterministic=False, action_mask=None):
        return np.zeros((len(obs), 1))

    def host_policy(self, rows):
        return None

    def evaluate_actions(self, obs, actions, action_mask=None):
        return actions * 0.0, actions * 0.0 + 1.0

    def value(self, obs):
        return np.ones((len(obs), 1))


def test_a_dropped_segment_is_the_whole_episode_and_nothing_else():
    env = workers.LeanVectorEnv(workers._makers("", ""))
    spoilt = workers.LeanVectorEnv(workers._makers("NaN", "step"))
    plain = RolloutCollector(env).collect(Still(), 8)
    got = RolloutCollector(spoilt, on_bad_data="drop").collect(Still(), 8)
    expected = np.ones((8, 3), dtype=bool)
    expected[:3, workers.BAD] = False  # Its third step brings the NaN.
    np.testing.assert_array_equal(got.valid, expected)
    others = [0, 2]
    for name in ("obs", "rewards", "truncated", "next_values"):
        mine, theirs = getattr(got, name), getattr(plain, name)
        np.testing.assert_array_equal(mine[:, others], theirs[:, others])
    assert got.truncated[2, workers.BAD]
    assert got.starts[3, workers.BAD]
    assert (got.dropped_steps, got.restarts) == (3, 0)
    assert np.isfinite(got.obs).all()


def test_a_replaced_worker_cuts_its_episode_off_before_the_failure():
    makers = workers._makers("killed", "step")
    env = workers.WorkerVectorEnv(makers, timeout=10.0, max_restarts=1)
    try:
        collector = RolloutCollector(env)
        rollout = collector.collect(Still(), 5)
        numbers = collector.get_state()["episode"]
    finally:
        env.close()
    assert rollout.valid[:, workers.BAD].tolist() == [True, True, False, True, True]
    cut_off = rollout.truncated[:, workers.BAD]
    assert cut_off.tolist() == [False, True, True, False, False]
    assert rollout.next_values[1, workers.BAD] == 1.0
    assert rollout.episodes == ()
    assert (rollout.dropped_steps, rollout.restarts) == (0, 1)
    assert numbers.tolist() == [0, 1, 0]
