"""The callbacks' protocol: order, what stops a run, what is refused, resuming."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.support.callback_runs import Counter, Diary, small, updates
from tests.support.training_runs import assert_resumes_exactly
from trpo.callbacks.base import Callback, Callbacks, Stop
from trpo.callbacks.builtin import SaveBest
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


EXAMPLE = Path(__file__).parents[2] / "examples" / "callbacks.py"


def test_they_are_told_of_everything_in_order(tmp_path):
    diary = Diary()
    train_run(small(), tmp_path / "run", callbacks=[diary])
    assert diary.notes == [("start",), *updates(1, 6), ("end",)]


@pytest.mark.parametrize(
    ("when", "answer", "last"),
    [
        (("update", 2), False, 2),
        (("update", 2), np.bool_(False), 2),
        (("evaluation", 2), Stop("enough"), 2),
        (("checkpoint", 3), False, 3),
        (("rollout",), False, 1),
        (("update", 2), True, 6),
        (("update", 2), None, 6),
    ],
)
def test_each_may_stop_between_updates(tmp_path, capsys, when, answer, last):
    diary, other = Diary({when: answer}), Counter()
    train_run(small(), tmp_path / "run", callbacks=[diary, other])
    assert diary.notes == [("start",), *updates(1, last), ("end",)]
    assert len(other.seen) == last  # One that comes after is asked too.
    checkpoint = RunDirectory(tmp_path / "run").load()[0]
    assert checkpoint.step == 64 * last
    assert len(read_metrics(tmp_path / "run" / "metrics.csv")) == last
    reason = "enough" if isinstance(answer, Stop) else f".on_{when[0]} returned False"
    assert (reason in capsys.readouterr().out) == (last < 6)


def test_a_library_call_takes_callbacks_and_functions():
    trainer, diary = Trainer(small()), Diary()
    diary.on_update = lambda progress: diary._note("update", progress.update)
    stop = trainer.run([diary, lambda progress: progress.update < 2])
    both = [("rollout",), ("update", 1), ("rollout",), ("update", 2)]
    assert diary.notes == [("start",), *both, ("end",)]
    assert "OnUpdate" in stop.reason
    assert trainer.run(lambda progress: None, num_updates=3) is None
    with pytest.raises(ValueError, match=r"SaveBest.*directory"):
        trainer.run(SaveBest())
    with pytest.raises(ValueError, match=r"expected None, True, False or Stop.*'no'"):
        trainer.run(lambda progress: "no", num_updates=4)
    trainer.close()


@pytest.mark.parametrize("bad", [[3], [Callback], [Diary(), Diary()]])
def test_what_is_no_callback_is_refused(bad):
    with pytest.raises(ValueError, match="`callbacks`: expected"):
        Callbacks(bad)


def test_callbacks_change_no_bit_of_the_run(tmp_path):
    plain = Trainer(small())
    plain.run()
    watched = small(save_best=True, stop_at_return=1e9)
    train_run(watched, tmp_path / "run", callbacks=[Diary()])
    saved = RunDirectory(tmp_path / "run").load()[0].arrays
    state = plain.get_state()
    assert set(state) == set(saved)
    for name, array in state.items():
        np.testing.assert_array_equal(array, saved[name], err_msg=name)
    plain.close()
    assert_resumes_exactly(small())


@pytest.mark.parametrize("cut", [3, 4])
def test_state_is_exact_on_resume(tmp_path, cut):
    config = small(save_best=True)
    straight = Counter()
    train_run(config, tmp_path / "straight", callbacks=[straight])
    half, resumed = Diary({("update", cut): False}), Counter()
    train_run(config, tmp_path / "cut", callbacks=[half, Counter()])
    train_run(config, tmp_path / "cut", callbacks=[resumed], resume=True)
    assert len(resumed.seen) == 6
    assert resumed.seen == straight.seen
    ends = [RunDirectory(tmp_path / name).load()[0] for name in ("straight", "cut")]
    assert ends[0].metadata["callbacks"] == ends[1].metadata["callbacks"]
    assert set(ends[0].metadata["callbacks"]) == {"Counter", "SaveBest"}
    best = [RunDirectory(tmp_path / n / "best").load()[0] for n in ("straight", "cut")]
    assert best[0].step == best[1].step
    assert best[0].metadata["evaluation"] == best[1].metadata["evaluation"]


def test_the_example_stops_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "too far three times" in capsys.readouterr().out
    checkpoint = RunDirectory(tmp_path / "runs/watched").load()[0]
    assert checkpoint.metadata["callbacks"] == {"FarSteps": {"count": 3}}
    rows = read_metrics(tmp_path / "runs/watched/metrics.csv")
    assert sum(row["policy/kl"] > 0.005 for row in rows) == 3
    assert rows[-1]["policy/kl"] > 0.005
