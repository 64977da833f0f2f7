"""What fails as a run ends never takes the place of what has ended it."""

import os

import gymnasium
import numpy as np
import pytest

from benchmarks.scale.processes import start
from tests.support.callback_runs import small
from tests.support.waiting import PATIENCE
from trpo.callbacks.base import Callback
from trpo.cli.main import main
from trpo.common.closing import closing, noting_failure
from trpo.config.presets import preset_config
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import MetricsWriter
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")


class Failing(gymnasium.Env):
    """Fails after some steps, in one rank alone, and again as it is closed."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, good_steps=0, first=0.0):
        self.left, self.first = good_steps, first

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(1, self.first, np.float32), {}

    def step(self, action):
        self.left -= 1
        if self.left < 0 and os.environ.get("RANK", "0") == "0":
            raise RuntimeError("the cause")
        return np.zeros(1, np.float32), 0.0, False, self.left % 8 == 0, {}

    def close(self):
        raise OSError("what came after")


gymnasium.register("TrpoTest/Failing-v0", Failing)
gymnasium.register("TrpoTest/FailsLater-v0", Failing, kwargs={"good_steps": 40})
gymnasium.register("TrpoTest/NanAtReset-v0", Failing, kwargs={"first": np.nan})
SMALL = (
    *("--num-envs", "1", "--rollout-steps", "16", "--total-steps", "64"),
    *("--policy-layer-sizes", "4", "--critic-layer-sizes", "4", "--value-epochs", "1"),
    *("--eval-episodes", "0"),
)


def notes(error):
    return "\n".join(getattr(error, "__notes__", ()))


def test_the_error_of_a_block_is_told_and_what_came_after_is_a_note():
    def fail():
        raise KeyError("after")

    with pytest.raises(ValueError, match="cause") as caught, closing(fail):
        raise ValueError("cause")
    assert "after that, KeyError: 'after'" in notes(caught.value)
    with pytest.raises(KeyError), closing(fail):
        pass
    cause = ValueError("cause")
    with pytest.raises(KeyboardInterrupt), noting_failure(cause):
        raise KeyboardInterrupt  # The user's own word, at once.


# Gymnasium's own, of a NaN.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("env_id", "words", "updates"),
    [
        ("TrpoTest/Failing-v0", "the cause", 0),
        ("TrpoTest/FailsLater-v0", "the cause", 2),
        ("TrpoTest/NanAtReset-v0", "finite", None),
    ],
)
def test_an_environments_error_is_told(
    tmp_path, capsys, backend, env_id, words, updates
):
    run = tmp_path / "run"
    command = ["train", env_id, *SMALL, "--backend", backend, "--run-dir", str(run)]
    assert main(command) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("error: ")
    assert words in first
    if updates == 0:
        assert not run.exists()  # It never learned.
    elif updates is not None:
        assert RunDirectory(run).load()[0].arrays["training.update"] == updates


class Refusing(Callback):
    """Has a state that fails, once there is a cause; and fails in its end."""

    def __init__(self, name):
        self._name, self.bad = name, False

    @property
    def name(self):
        return self._name

    def on_update(self, progress):
        self.bad = progress.update == 2
        if self.bad:
            raise RuntimeError("the cause")

    def get_state(self):
        if self.bad:
            raise ValueError("a state that can't be saved")
        return {}

    def on_end(self):
        raise OSError(f"the end of {self._name}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_that_fails_as_a_run_ends_are_notes_of_its_cause(
    tmp_path, monkeypatch, backend
):
    class Closing(Trainer):
        def close(self):
            super().close()
            raise OSError("the trainer's close")

    close = MetricsWriter.close

    def closing_writer(self):
        close(self)
        raise OSError("the writer's close")

    monkeypatch.setattr(MetricsWriter, "close", closing_writer)
    config = small(backend=backend, checkpoint_interval=100)
    with pytest.raises(RuntimeError, match="the cause") as caught:
        train_run(
            config,
            tmp_path / "run",
            callbacks=[Refusing("a"), Refusing("b")],
            make_trainer=Closing,
        )
    told = notes(caught.value)
    for words in (
        "the writer's close", "the end of a", "the end of b", "the trainer's close",
    ):  # fmt: skip
        assert words in told


def test_what_was_learned_is_scored_where_no_curve_can_be_drawn(tmp_path, capsys):
    run = tmp_path / "run"

    def in_the_way(progress):
        (run / "learning_curve.png").mkdir(exist_ok=True)
        (run / "learning_curve.png" / "x").touch()

    config = small(eval_episodes=1, eval_interval=0)
    assert train_run(config, run, callbacks=[in_the_way]) is not None
    printed = capsys.readouterr().out
    assert "no learning curve was drawn" in printed
    assert (run / "evaluation.json").is_file()


def test_a_compiled_runs_error_is_told_and_what_it_learned_is_saved(
    tmp_path, monkeypatch
):
    from trpo_jax.loop.trainer import CompiledTrainer

    config = preset_config(
        "phys2d/CartPole-v1", backend="jax", num_envs=2, rollout_steps=8,
        total_steps=64, policy_layer_sizes=(4,), critic_layer_sizes=(4,),
        value_epochs=1, eval_episodes=0, checkpoint_interval=100,
    )  # fmt: skip
    write, close = MetricsWriter.write, MetricsWriter.close

    def failing(self, step, row):
        if step == 64:
            raise RuntimeError("the cause")
        return write(self, step, row)

    def closing_writer(self):
        close(self)
        raise OSError("the writer's close")

    monkeypatch.setattr(MetricsWriter, "write", failing)
    monkeypatch.setattr(MetricsWriter, "close", closing_writer)
    with pytest.raises(RuntimeError, match="the cause") as caught:
        train_compiled_run(config, tmp_path / "run", num_seeds=2)
    assert "the writer's close" in notes(caught.value)
    members = [path for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert len(members) == 2
    for path in members:
        assert RunDirectory(path).load()[0].step == 64

    get_state = CompiledTrainer.get_state

    def no_state(self, index=0):
        if self.update_count:
            raise ValueError("no state")
        return get_state(self, index)

    monkeypatch.setattr(CompiledTrainer, "get_state", no_state)
    with pytest.raises(RuntimeError, match="the cause") as caught:
        train_compiled_run(config, tmp_path / "other")
    assert "no state" in notes(caught.value)


RANK = """
import sys
import tests.runs.test_endings
from trpo.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_rank_whose_environment_fails_is_named_by_all(tmp_path):
    run = tmp_path / "run"
    command = [
        *("-c", RANK, "train", "TrpoTest/FailsLater-v0", *SMALL[6:], "--num-envs", "2"),
        *("--rollout-steps", "16", "--total-steps", "128"),
        *("--vectorization", "sync", "--backend", "torch", "--run-dir", str(run)),
        "--distributed",
    ]
    processes = start(command, 2)
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert all(process.returncode for process in processes), said
    for text in said:
        assert "the cause" in text, said
        assert "KeyError" not in text, said
        assert "LostRankError" not in text, said
    assert RunDirectory(run).load()[0].arrays["training.update"] == 2
