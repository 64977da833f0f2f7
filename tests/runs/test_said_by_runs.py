"""What a run says of itself: lines of 80 columns, the final evaluation, a ranking."""

import io
import re
from typing import Any

import mujoco
import numpy as np
import pytest
from rich.console import Console

from tests.support.event_readers import scalars
from trpo.cli.main import main
from trpo.common.terminal import Terminal
from trpo.config.run import TrainConfig
from trpo.data.report import StepStatus
from trpo.environments.make import make_environment
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs import progress_bar
from trpo.runs.evaluate import describe
from trpo.runs.event_files import DIRECTORY
from trpo.runs.members import NamedMember, write_ranking
from trpo.runs.metrics import read_metrics
from trpo.sweeps.report import SweepRow, write_report
from trpo.training.progress import Progress


def terminal(width=80, live=False):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=live)
    return Terminal(console), file


def result_of(*returns):
    values = np.array(returns)
    lengths = np.full(len(values), 10)
    return EvaluationResult(values, lengths, None, np.zeros(len(values), bool))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("status", list(StepStatus))
def test_progress_fits_80_columns(live, status, monkeypatch):
    seconds = iter(range(0, 10_000, 30))
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(seconds))
    said, file = terminal(live=live)
    metrics = {
        "rollout/episode_return_mean": -12345.6,
        "policy/kl": 0.0099,
        "policy/status": float(status),
    }
    with progress_bar.ProgressDisplay(said, 1_000_000, 0) as display:
        display.show(Progress(1, 1_000_000, metrics))
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    assert "return -12345.6" in text
    assert ("KL 0.0099" in text) == (status == StepStatus.ACCEPTED)
    assert live == ("1,000,000 of 1,000,000 steps" in text)


def test_one_episode_or_seed_has_no_spread(tmp_path):
    assert describe(result_of(3.0)) == "return 3.00 over 1 episode"
    assert describe(result_of(3.0, 5.0)) == "return 4.00 ± 1.00 over 2 episodes"
    row = SweepRow("E-v0", "preset", 0, 3.0, 1.0, tmp_path)
    write_report([row], tmp_path)
    *_, last = (tmp_path / "results.md").read_text().splitlines()
    assert last == "| E-v0 | preset | 1 | 3.00 | 3.00 | 3.00 |"
    rows = [row, row._replace(seed=1, mean=5.0)]
    assert write_report(rows, tmp_path)[1][0][2:4] == ("2", "4.00 ± 1.00")


@pytest.mark.parametrize("count", [3, 24])
def test_many_members_are_ranked(count):
    said, file = terminal(200)
    config = TrainConfig(env_id="E-v0")
    members = [NamedMember(f"seed={i}", config, {}) for i in range(count)]
    write_ranking(said, members, 100, [result_of(i, i + 2) for i in range(count)])
    first, *lines = file.getvalue().splitlines()
    spread = f"{count / 2 + 0.5:.2f} ± {np.arange(count).std():.2f}"
    assert first == (
        f"evaluation of {count} members at step 100: return {spread} over members"
    )
    assert lines[0] == f"     1. seed={count - 1}: {count:.2f} ± 1.00 (best)"
    assert lines[-1] == f"  {count:>4}. seed=0: 1.00 ± 1.00 (worst)"
    assert len(lines) == min(count, 11)
    assert ("  … 14 more: members.csv" in lines) == (count == 24)


def test_the_final_evaluation_is_in_metrics_and_events(tmp_path, capsys):
    run = tmp_path / "run"
    options = "--num-envs 2 --rollout-steps 32 --total-steps 128 --eval-episodes 2"
    arguments = ["train", "CartPole-v1", *options.split(), "--backend", "torch"]
    assert main([*arguments, "--run-dir", str(run)]) == 0
    printed = capsys.readouterr().out
    (mean,) = re.findall(r"evaluation at step 128: return ([\d.]+) ± ", printed)
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [64, 128]
    assert f"{rows[1]['evaluation/return_mean']:.2f}" == mean
    assert "evaluation/return_mean" not in rows[0]
    assert rows[1]["policy/kl"] > 0
    found = scalars(run / DIRECTORY)["evaluation/return_mean"]
    assert [(step, f"{value:.2f}") for step, value, _ in found] == [(128, mean)]

    assert main(["evaluate", str(run), "--episodes", "1"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "CartPole-v1, torch, trained for 128 steps:"
    assert re.fullmatch(r"return [\d.]+ over 1 episode", second)
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 0
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [64, 128, 192]
    assert f"{rows[1]['evaluation/return_mean']:.2f}" == mean


def test_mujoco_repeats_no_warning_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        make_environment("HalfCheetah-v5", seed=seed).close()
    heard: Any = vars(mujoco)["get_mju_user_warning"]()
    assert "WARNING" not in "".join(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="MuJoCo: unstable 1") as said:
        heard("unstable 1")
    heard("unstable 1")  # A second warning would be an error here.
    assert len(said) == 1
