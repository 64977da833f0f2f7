"""Evaluations that have a limit, can be stopped, and lose nothing that was learned."""

import contextlib
import json
import os
import re
import signal

import gymnasium
import numpy as np
import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
import trpo.rollout.evaluation
from tests.support.agents import BACKENDS
from trpo.callbacks.builtin import SaveBest
from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.rollout.evaluation import evaluate, record_video
from trpo.runs.checkpoint import has_checkpoint
from trpo.runs.directory import Moment, RunDirectory
from trpo.runs.evaluate import describe, evaluation_json
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


ENDLESS = "TrpoTest/Endless-v0"
# In training no episode gets as far as that; in evaluations all do.
FAR = 40


class Endless(gymnasium.Env):
    """Has no end; pays 1 a step. At step `FAR` a signal may come, or an error."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    far, living, most_living = 0, 0, 0
    happens = staticmethod(lambda far: None)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        Endless.living += 1
        Endless.most_living = max(Endless.living, Endless.most_living)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        self.count += 1
        if self.count == FAR:
            Endless.far += 1
            Endless.happens(Endless.far)
        return self._obs(), 1.0, False, False, {}

    def _obs(self):
        return self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)

    def close(self):
        Endless.living -= 1


gymnasium.register(ENDLESS, Endless, disable_env_checker=True)


@pytest.fixture(autouse=True)
def _anew():
    Endless.far = Endless.living = Endless.most_living = 0
    yield
    Endless.happens = staticmethod(lambda far: None)


def signalling(number, at=1):
    """Send a signal as the `at`-th episode gets far."""

    def happens(far):
        if far == at:
            os.kill(os.getpid(), number)

    return staticmethod(happens)


def small(backend="torch", env_id=ENDLESS, **changes):
    fields = {
        "num_envs": 2, "rollout_steps": 4, "total_steps": 6 * 8, "value_epochs": 1,
        "policy_layer_sizes": (4,), "critic_layer_sizes": (4,), "eval_episodes": 3,
        "eval_max_steps": 50, "seed": 2, **changes,
    }  # fmt: skip
    return preset_config(env_id, backend=backend, **fields)


def agent_of(config):
    trainer = Trainer(config)
    trainer.close()
    Endless.living = Endless.most_living = 0
    return trainer.agent


@pytest.mark.parametrize("backend", BACKENDS)
def test_gymnasiums_own_endless_environment_is_trained_to_the_end(
    tmp_path, capsys, backend
):
    run = tmp_path / "run"
    command = [
        *("train", "CliffWalking-v1", "--backend", backend, "--num-envs", "2"),
        *("--rollout-steps", "8", "--total-steps", "32", "--eval-episodes", "3"),
        *("--policy-layer-sizes", "4", "--critic-layer-sizes", "4"),
        *("--eval-interval", "1", "--eval-max-steps", "60", "--run-dir", str(run)),
    ]
    # The policy that has learned nothing stands still: 1 a step is lost.
    cut = "`eval_max_steps`: 3 episodes of CliffWalking-v1 had not ended after 60 steps"
    with pytest.warns(UserWarning, match="had not ended") as told:
        assert main(command) == 0
    assert sum(cut in str(warning.message) for warning in told) == 1
    assert "3 of them cut" in capsys.readouterr().out
    found = json.loads((run / "evaluation.json").read_text())
    assert found["cut"] == [True] * 3
    assert found["lengths"] == [60] * 3
    assert not found["interrupted"]
    with pytest.warns(UserWarning, match="had not ended after 7 steps"):
        assert main(["evaluate", str(run), "--eval-max-steps", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cut"], found["lengths"]) == ([True] * 20, [7] * 20)


def test_the_environments_own_limit_counts_before_the_general_one(monkeypatch):
    monkeypatch.setattr(trpo.rollout.evaluation, "MOST_STEPS", 30)
    agent = agent_of(small())
    with pytest.warns(UserWarning, match=re.escape(
        "2 episodes of TrpoTest/Endless-v0 had not ended after 30 steps and were cut: "
        "their returns until then, from 30.00 to 30.00, count"
    )):  # fmt: skip
        result = evaluate(agent, ENDLESS, episodes=2, seed=0)
    assert result.under_way.tolist() == [True, True]
    assert describe(result).endswith("over 2 episodes, 2 of them cut")
    assert gymnasium.spec("Pendulum-v1").max_episode_steps == 200
    agent = agent_of(small(env_id="Pendulum-v1"))
    result = evaluate(agent, "Pendulum-v1", episodes=2, seed=0)
    assert (result.lengths.tolist(), result.under_way.any()) == ([200, 200], False)
    assert json.loads(evaluation_json(result))["cut"] == [False, False]
    assert Endless.living == 0


def test_many_episodes_are_played_in_parts_with_the_same_results(monkeypatch):
    env_id = "TrpoTest/Counter-v0"
    agent = agent_of(small(env_id=env_id))
    at_once = evaluate(agent, env_id, episodes=11, seed=3)
    shown = []
    monkeypatch.setattr(trpo.rollout.evaluation, "ENVIRONMENTS_AT_ONCE", 4)
    in_parts = evaluate(
        agent, env_id, episodes=11, seed=3, show=lambda *now: shown.append(now)
    )
    np.testing.assert_array_equal(at_once.lengths, in_parts.lengths)
    np.testing.assert_allclose(at_once.returns, in_parts.returns, rtol=1e-6)
    assert len(set(in_parts.returns)) == 11
    assert not in_parts.under_way.any()
    assert shown[0] == (0, 0, 0)
    assert [steps for *_, steps in shown] == sorted({steps for *_, steps in shown})
    assert max(ended for ended, *_ in shown) in range(8, 11)
    with pytest.warns(UserWarning, match="11 episodes"):
        result = evaluate(agent_of(small()), ENDLESS, episodes=11, seed=0, max_steps=2)
    assert result.returns.tolist() == [2.0] * 11
    assert Endless.most_living == 4


def test_an_evaluation_keeps_nothing_of_its_past(monkeypatch):
    agent, kept = agent_of(small(env_id="TrpoTest/Counter-v0")), []
    advance = trpo.rollout.evaluation.RolloutCollector.advance

    def spy(self, actions):
        kept.append((len(self._open.actions), len(self._open.ended)))
        return advance(self, actions)

    monkeypatch.setattr(trpo.rollout.evaluation.RolloutCollector, "advance", spy)
    evaluate(agent, "TrpoTest/Counter-v0", episodes=4, seed=0)
    assert set(kept) == {(0, 0)}


class Stops:
    """Set once it has been asked a number of times."""

    def __init__(self, times):
        self.times = times

    def is_set(self):
        self.times -= 1
        return self.times < 0


def test_a_stop_gives_what_there_is(monkeypatch):
    monkeypatch.setattr(trpo.rollout.evaluation, "ENVIRONMENTS_AT_ONCE", 2)
    agent = agent_of(small())
    with pytest.warns(UserWarning, match="had not ended after 9 steps"):
        evaluate(agent, ENDLESS, episodes=2, seed=0, max_steps=9)
    result = evaluate(agent, ENDLESS, episodes=6, seed=0, max_steps=9, stop=Stops(12))
    assert result.interrupted
    assert result.returns.tolist() == [9.0, 9.0, 3.0, 3.0]
    assert json.loads(evaluation_json(result))["interrupted"]
    assert describe(result) == (
        "interrupted: no episode has ended; of 4 under way, after at most 9 steps, "
        "3.00 to 9.00 so far"
    )
    env_id = "TrpoTest/Counter-v0"
    agent = agent_of(small(env_id=env_id))
    result = evaluate(agent, env_id, episodes=2, seed=0, stop=Stops(5))
    whole = evaluate(agent, env_id, episodes=2, seed=0)
    ended = ~result.under_way
    np.testing.assert_array_equal(result.returns[ended], whole.returns[ended])
    assert ended.tolist() == (whole.lengths <= 5).tolist() == [True, False]
    assert re.fullmatch(
        r"interrupted: return \d+\.\d+ over 1 episode; of 1 under way, .*",
        describe(result),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_last_evaluation_ends_it_and_all_is_saved(
    tmp_path, capsys, number
):
    run, config = tmp_path / "run", small()
    saved = []

    def happens(far):
        saved.append(has_checkpoint(run / "checkpoints"))
        if far == 1:
            os.kill(os.getpid(), number)

    Endless.happens = staticmethod(happens)
    assert train_run(config, run) is None
    printed = capsys.readouterr().out
    assert "interrupted: no episode has ended; of 2 under way, after at most 40" in (
        printed
    )
    assert f"saved in {run}" in printed
    assert saved[0]
    assert RunDirectory(run).load()[0].step == 48
    assert not (run / "evaluation.json").exists()
    assert Endless.living == 0
    Endless.happens = staticmethod(lambda far: None)
    with pytest.warns(UserWarning, match="had not ended after 50 steps"):
        result = train_run(config, run, resume=True)
    assert result is not None
    assert result.returns.tolist() == [50.0] * 3
    assert (run / "evaluation.json").exists()


def test_evaluate_that_is_interrupted_says_what_it_has(tmp_path, capsys):
    run = tmp_path / "run"
    train_run(small(eval_episodes=0), run)
    capsys.readouterr()
    for options in ([], ["--json"]):
        Endless.far = 0
        Endless.happens = signalling(signal.SIGINT)
        command = ["evaluate", str(run), "--episodes", "2", *options]
        assert main(command) == 130
        printed = capsys.readouterr().out
        if options:
            assert json.loads(printed)["interrupted"]
        else:
            assert "\ninterrupted: no episode has ended; of 2 under" in printed


def rows_of(run):
    rows = read_metrics(run / "metrics.csv")
    return [{k: v for k, v in row.items() if "time/" not in k} for row in rows]


@pytest.mark.parametrize("update", [1, 3, 6])
def test_an_evaluation_cut_in_training_is_made_up_for_by_the_resumed_run(
    tmp_path, update
):
    config = small(eval_interval=1, checkpoint_interval=2)
    asked = []

    class Told(SaveBest):
        def on_update(self, progress):
            asked.append(("update", progress.update, len(progress.metrics)))

        def on_evaluation(self, progress, result):
            asked.append(("evaluation", progress.update, result.mean))
            super().on_evaluation(progress, result)

    with pytest.warns(UserWarning, match="had not ended after 50 steps"):
        train_run(config, tmp_path / "straight", callbacks=[Told()])
    straight, asked = asked, []
    Endless.far = 0
    # Of five episodes a time.
    Endless.happens = signalling(signal.SIGTERM, 5 * (update - 1) + 1)
    run = tmp_path / "run"
    told = pytest.warns(UserWarning, match="had not ended after 50 steps")
    with told if update > 1 else contextlib.nullcontext():
        assert train_run(config, run, callbacks=[Told()]) is None
    assert RunDirectory(run).load()[0].step == 8 * update
    assert len(rows_of(run)) == update - 1
    assert not (run / "evaluation.json").exists()
    with pytest.warns(UserWarning, match="had not ended after 50 steps"):
        assert train_run(config, run, resume=True, callbacks=[Told()]) is not None
    assert rows_of(run) == rows_of(tmp_path / "straight")
    assert asked == straight
    for part in (".", "best"):
        left, right = (
            RunDirectory(root / part).load()[0] for root in (run, tmp_path / "straight")
        )
        assert left.step == right.step
        assert left.metadata["callbacks"] == right.metadata["callbacks"]
        for name, array in right.arrays.items():
            np.testing.assert_array_equal(left.arrays[name], array, err_msg=name)


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_an_environment_that_fails_in_an_evaluation_loses_nothing(tmp_path, fault):
    def fail(far):
        raise fault("planted")

    Endless.happens = staticmethod(fail)
    run, config = tmp_path / "run", small(eval_interval=2)
    with pytest.raises(Exception if fault is RuntimeError else fault, match="planted"):
        train_run(config, run)
    assert RunDirectory(run).load()[0].step == 16
    assert Endless.living == 0
    Endless.happens = staticmethod(lambda far: None)
    with pytest.warns(UserWarning, match="had not ended after 50 steps"):
        train_run(config, run, resume=True)
    evaluated = ["evaluation/return_mean" in row for row in rows_of(run)]
    assert evaluated == [False, True] * 3


@pytest.mark.parametrize(
    "due", [[], {}, {"policy/kl": 0.0}, {"policy/kl": 0.0, "policy/status": 9},
            {"policy/kl": 0.0, "policy/status": 0, "of a stranger": [1.0]},
            {"policy/kl": "0", "policy/status": 0}]
)  # fmt: skip
def test_what_is_no_update_that_is_due_is_refused(tmp_path, capsys, due):
    config, run = small(eval_episodes=0), tmp_path / "run"
    train_run(config, run)
    checkpoint = RunDirectory(run).load()[0]
    trainer = Trainer(config)
    spec, note = trainer.spec, {"due": due}
    moment = Moment(config, spec, checkpoint.step, checkpoint.arrays, note)
    RunDirectory(run).save(moment)
    trainer.close()
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 2
    assert "`due`: expected an update's metrics, got" in capsys.readouterr().err


def test_a_film_has_a_limit_and_its_environment_is_closed(tmp_path):
    pytest.importorskip("moviepy")
    agent = agent_of(small())
    with pytest.warns(UserWarning, match="ends before its episode does"):
        film = record_video(agent, ENDLESS, seed=0, directory=tmp_path, max_steps=5)
    assert film.stat().st_size > 0
    assert Endless.living == 0

    def fail(far):
        raise RuntimeError("planted")

    Endless.happens = staticmethod(fail)
    with pytest.raises(Exception, match="planted"):
        record_video(agent, ENDLESS, seed=0, directory=tmp_path)
    assert Endless.living == 0
