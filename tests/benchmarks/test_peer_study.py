"""Other libraries' runs stand beside ours; without them, the study is as it was."""

import importlib.util

import pytest

from benchmarks.learning.peers import __main__ as peer_study
from benchmarks.learning.training.report import report, summary
from benchmarks.learning.training.rows import Row, read_rows, write_rows


OURS, THEIRS = (1010.0, 1000.0, 990.0), (510.0, 500.0, 490.0)


def write(path, returns, step=1_000_000):
    rows = [
        Row(seed, step, 20, (mean, 1.0, mean, 2.0), None, 60.0, (1, 0, 0, 0, 0))
        for seed, mean in enumerate(returns)
    ]
    write_rows(path, rows)


def test_ours_and_the_peer_are_compared_on_the_same_environment(tmp_path):
    write(tmp_path / "Hopper-v5-jax.csv", OURS)
    write(tmp_path / "peers" / "Hopper-v5-sb3-contrib.csv", THEIRS, step=999_424)
    text = report(tmp_path).read_text()
    (row,) = (line for line in text.splitlines() if "500.0 [" in line)
    assert row.startswith("| Hopper-v5 | 0, 1, 2 | 0, 1, 2 | 1,000.0 | 500.0 | 500.0 [")
    assert row.endswith("| **no** |")


def test_runs_of_another_length_are_not_compared(tmp_path):
    write(tmp_path / "Hopper-v5-jax.csv", OURS)
    write(tmp_path / "peers" / "Hopper-v5-sb3-contrib.csv", THEIRS, step=300_000)
    assert "sb3-contrib, same environments" not in report(tmp_path).read_text()


def test_what_the_zoo_has_no_settings_for_is_refused():
    message = "envs" if importlib.util.find_spec("sb3_contrib") else "not installed"
    with pytest.raises(ValueError, match=message):
        peer_study.main(peer_study.Arguments(envs=("CartPole-v1",)))


@pytest.mark.skipif(
    importlib.util.find_spec("sb3_contrib") is None, reason="needs the peers extra"
)
def test_the_peer_trains_and_is_evaluated(tmp_path):
    arguments = peer_study.Arguments(
        envs=("Hopper-v5",),
        seeds=(100,),
        total_steps=20_480,
        workers=1,
        runs=tmp_path / "runs",
        out=tmp_path / "results",
    )
    assert peer_study.main(arguments) == 0
    rows = read_rows(arguments.out / "Hopper-v5-sb3-contrib.csv")
    assert [row.step for row in rows] == list(range(2048, 20_481, 2048))
    assert rows[-1].episodes == 20
    assert sum(rows[-1].statuses) == 10


def test_the_readme_has_every_folder_and_no_deviation_of_one_seed(tmp_path):
    write(tmp_path / "a" / "Hopper-v5-jax.csv", OURS)
    write(tmp_path / "b" / "CartPole-v1-torch.csv", OURS[:1], step=100_352)
    lines = summary((tmp_path / "a", tmp_path / "b")).splitlines()
    assert "| Hopper-v5 | JAX | 1,000,000 | 3 | 1,000.0 ± 8.2 | 3,372.0" in lines[2]
    assert "| CartPole-v1 | PyTorch | 100,352 | 1 | 1,010.0 | 500.0" in lines[3]
