"""Radius and learning rate over a run: constant, falling, or by the advantages."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

from tests.support.agents import BACKENDS, fingerprint, make_agent, make_batch
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.config.schedules import SCHEDULED
from trpo.training.trainer import Trainer


def config(**changes):
    agent = TRPOConfig(
        target_kl=0.02, value_lr=1e-3, policy_layer_sizes=(8,), critic_layer_sizes=(8,)
    )
    values = {
        "env_id": "Pendulum-v1",
        "total_steps": 160,
        "num_envs": 2,
        "rollout_steps": 16,
        "seed": 3,
        "agent": agent,
    }
    return TrainConfig(**(values | changes))


def watched(trainer):
    """The trainer, and a list of the rates that its updates will have been given."""
    inner, seen = trainer.agent.update, []

    def update(batch, **rates):
        seen.append({name: rates[name] for name in SCHEDULED})
        return inner(batch, **rates)

    trainer.agent.update = update
    return trainer, seen


class Rates(NamedTuple):
    target_kl: float
    value_lr: float


def rates(config, *at):
    """What a schedule changes; all other numbers are the configuration's."""
    numbers, own = config.numbers_at(*at), config.agent.step_numbers()
    rates = Rates(numbers.target_kl, numbers.value_lr)
    assert numbers == own._replace(**rates._asdict())
    return rates


def test_rates_fall_linearly_to_the_last_update():
    falling = config(final_target_kl=0.01, final_value_lr=5e-4)
    assert falling.num_updates == 5
    at = [rates(falling, update) for update in range(7)]
    expected = [0.02, 0.0175, 0.015, 0.0125, 0.01, 0.01, 0.01]
    np.testing.assert_allclose([rate.target_kl for rate in at], expected)
    learning_rates = [rate.value_lr / 0.05 for rate in at]
    np.testing.assert_allclose(learning_rates, expected)
    assert at[0] == (0.02, 1e-3)


def test_rates_end_where_they_are_to_however_small():
    tiny = config(final_target_kl=1e-30, final_value_lr=1e-30)
    for update in (4, 5):
        assert rates(tiny, update) == (1e-30, 1e-30)


def test_rates_are_constant_by_default():
    assert {rates(config(), update) for update in range(9)} == {(0.02, 1e-3)}
    # A run of one update has no later one to fall to.
    assert rates(config(total_steps=1, final_target_kl=0.01), 0).target_kl == 0.02


def test_radius_falls_with_the_variance_of_quiet_advantages():
    quiet = config(full_radius_advantage_std=0.1, final_target_kl=0.01)
    for update, whole in ((0, 0.02), (4, 0.01)):
        for std, share in ((7.0, 1.0), (0.1, 1.0), (0.05, 0.25), (0.01, 0.01)):
            found = rates(quiet, update, std)
            np.testing.assert_allclose(found, (whole * share, 1e-3))
    # Equal advantages: no radius of zero, which an update would refuse.
    assert 0.0 < rates(quiet, 0, 0.0).target_kl < 1e-8
    assert rates(config(), 0, 0.0) == (0.02, 1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("normalized", [True, False])
def test_training_gives_quiet_advantages_a_smaller_radius(backend, normalized):
    # Far above any deviation, so that each radius is cut.
    agent = dataclasses.replace(config().agent, normalize_advantages=normalized)
    quiet = config(backend=backend, agent=agent, full_radius_advantage_std=20.0)
    trainer, seen = watched(Trainer(quiet))
    metrics = []
    trainer.run(lambda progress: metrics.append(progress.metrics))
    trainer.close()
    for given, found in zip(seen, metrics, strict=True):
        share = (found["rollout/advantage_std"] / 20.0) ** 2
        assert 0.0 < share < 0.1
        assert given["target_kl"] == pytest.approx(0.02 * share, rel=1e-12)
        assert found["policy/kl"] <= given["target_kl"]


@pytest.mark.parametrize("name", ["final_target_kl", "final_value_lr"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "low"])
def test_bad_final_rates_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        config(**{name: value})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["target_kl", "value_lr"])
def test_bad_rates_of_an_update_change_nothing(backend, name):
    agent = make_agent(backend)
    batch = make_batch(agent)
    before = fingerprint(agent)
    for value in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"`{name}`"):
            agent.update(batch, **{name: value})
    assert fingerprint(agent) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_follows_the_schedule_also_when_it_is_resumed(backend):
    falling = config(backend=backend, final_target_kl=1e-4, final_value_lr=1e-5)
    straight, seen = watched(Trainer(falling))
    metrics = []
    straight.run(lambda progress: metrics.append(progress.metrics))
    without = {"entropy_coefficient": 0.0}
    assert seen == [rates(falling, n)._asdict() | without for n in range(5)]
    for given, found in zip(seen, metrics, strict=True):
        assert found["policy/kl"] <= given["target_kl"]
    # The radius is used: no later step reaches what the first one may.
    assert metrics[0]["policy/kl"] > 1e-3 > 2e-4 > metrics[-1]["policy/kl"]

    first = Trainer(falling)
    first.run(num_updates=2)
    second, seen = watched(Trainer(falling))
    second.set_state(first.get_state())
    second.run()
    assert seen == [rates(falling, n)._asdict() | without for n in range(2, 5)]
    states = straight.get_state(), second.get_state()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    for trainer in (straight, first, second):
        trainer.close()
