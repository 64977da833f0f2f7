"""What an environment is stepped with, by trial."""

import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from trpo.cli import pace
from trpo.cli.main import main
from trpo.cli.pace import Pace, fastest


def test_what_was_fastest_is_recommended_where_it_is_worth_a_change():
    def with_speeds(*speeds):
        return [Pace(8, f"kind {i}", 1e-4, 2e-5, 0.1, s) for i, s in enumerate(speeds)]

    assert fastest(with_speeds(100.0, 90.0, 250.0)).vectorization == "kind 2"
    assert fastest(with_speeds(100.0, 105.0)).vectorization == "kind 0"


def test_an_environment_is_timed():
    found = pace.measured("TrpoTest/Counter-v0", "torch", 64, "sync")
    assert (found.num_envs, found.vectorization) == (64, "sync")
    assert min(found[2:]) > 0.0
    # The parts make the whole: steps of 64 environments, and an update.
    samples = 2_048
    whole = (found.stepping + found.acting) * samples / 64 + found.learning
    assert found.speed == pytest.approx(samples / whole, rel=0.05)
    assert fastest([found]) is found


def test_no_environment_is_one_line(capsys):
    assert main(["doctor", "NoSuch-v0"]) == 2
    assert "NoSuch-v0" in capsys.readouterr().err
