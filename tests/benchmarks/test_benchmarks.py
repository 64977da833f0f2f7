"""The throughput table times both backends on the same work."""

from benchmarks.speed.report.quick_table import Size, time_update


def test_both_backends_are_timed_on_the_same_work():
    timings = time_update(Size("tiny", 64, 3, 1, (8,)), repeats=3)
    assert set(timings) == {"torch", "jax"}
    assert timings["torch"].cg_iterations == timings["jax"].cg_iterations > 0
    assert timings["torch"].median > 0
    # The first call of a new shape compiles.
    assert timings["jax"].first > timings["jax"].median > 0
