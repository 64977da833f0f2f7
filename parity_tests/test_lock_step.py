"""Both backends trained on Pendulum-v1: equal in lock step, close in closed loop."""

from parity_tests.lock_step import (
    closed_loop,
    default_config,
    explain_parting,
    lock_step,
)


def test_twenty_iterations_in_lock_step_are_equal():
    comparisons = list(lock_step(default_config(), iterations=20))
    print(f"worst lock-step difference {max(c.parameters for c in comparisons):.1e}")
    assert len(comparisons) == 20
    for comparison in comparisons:
        assert comparison.parameters <= 1e-9, comparison
        assert comparison.optimizer <= 1e-9, comparison
        assert comparison.decisions == (), comparison


def test_closed_loops_stay_together_at_first_and_their_parting_is_explained():
    comparisons = list(closed_loop(default_config(), iterations=8))
    print(explain_parting(comparisons))
    for comparison in comparisons[:3]:
        assert comparison.parameters <= 1e-6, comparison
