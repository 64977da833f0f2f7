"""Both backends trained on Pendulum-v1: equal in lock step, close in closed loop."""

import dataclasses

import numpy as np
import pytest

from parity_tests.rings.lock_step import (
    closed_loop,
    critic_sensitivity,
    default_config,
    explain_divergence,
    lock_step,
    relative_difference,
)
from trpo.training.trainer import Trainer


def test_twenty_iterations_in_lock_step_are_equal():
    comparisons = list(lock_step(default_config(), iterations=20))
    print(f"worst lock-step difference {max(c.parameters for c in comparisons):.1e}")
    assert len(comparisons) == 20
    for comparison in comparisons:
        assert comparison.parameters <= 1e-9, comparison
        assert comparison.optimizer <= 1e-9, comparison
        assert comparison.decisions == (), comparison


def test_where_the_preset_s_critic_differs_one_backend_alone_does_so_too():
    preset = {"value_lr": 1e-3, "value_epochs": 20}
    config = default_config(**preset)
    for comparison in lock_step(config, iterations=6):
        assert comparison.decisions == (), comparison
        if comparison.parameters > 1e-9:
            floor = critic_sensitivity(config, comparison.update)
            print(f"{comparison}, one backend alone: {floor:.1e}")
            assert comparison.parameters <= 100 * floor, comparison


def test_closed_loops_stay_together_at_first_and_their_parting_is_explained():
    comparisons = list(closed_loop(default_config(), iterations=8))
    print(explain_divergence(comparisons))
    for comparison in comparisons[:3]:
        assert comparison.parameters <= 1e-6, comparison


@pytest.mark.parametrize("first", ["torch", "jax"])
def test_one_backend_continues_what_the_other_began(first):
    second = "jax" if first == "torch" else "torch"
    config = default_config(total_steps=6 * 1600)
    straight = Trainer(dataclasses.replace(config, backend=first))
    straight.run(num_updates=6)
    beginning = Trainer(dataclasses.replace(config, backend=first))
    beginning.run(num_updates=3)
    rest = Trainer(dataclasses.replace(config, backend=second))
    assert rest.set_state(beginning.get_state()) == ()
    rest.run(num_updates=6)
    left, right = straight.get_state(), rest.get_state()
    prefixes = ("policy.", "value.", "value_optimizer.", "return_scaler.")
    assert relative_difference(left, right, prefixes) <= 1e-9
    np.testing.assert_array_equal(left["random.action_draws"], 6 * 400)
    for name in left:
        if name.startswith(("random.", "environment.episode", "training.update")):
            np.testing.assert_allclose(left[name], right[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("recurrent", ["none", "gru"])
def test_both_begin_with_the_same_bits(recurrent):
    config = default_config(recurrent=recurrent)
    left, right = (
        Trainer(dataclasses.replace(config, backend=backend)).get_state()
        for backend in ("torch", "jax")
    )
    assert set(left) == set(right)
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)
