"""Lock-step training on Pendulum, float32 included; float64 alone: test_lock_step."""

from parity_tests import shadow


def test_ten_updates_in_lock_step_keep_to_the_bounds():
    history = shadow.run("Pendulum-v1", 10)
    assert len(history) == 10
    assert shadow.passed(history)
    assert max(update.step_64 for update in history) <= 1e-10
    # Real updates, not refusals that agree.
    assert all(update.kl > 1e-4 for update in history)


def test_the_bounds_can_fail():
    (update,) = shadow.run("Pendulum-v1", 1)
    assert not shadow.passed([update._replace(step_64=1e-9)])
    assert not shadow.passed([update._replace(decisions_64=False)])
    assert not shadow.passed([update._replace(step_jax_32=1e-2)])
