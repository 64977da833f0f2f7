"""The cost model of many devices, and how all-reduces are counted."""

import pytest

from benchmarks.scale.communication import AllReduces, in_compiled_text
from benchmarks.scale.model import (
    LINKS,
    Link,
    Load,
    all_reduce_seconds,
    efficiency,
    samples_that_pay,
)


def test_all_reduces_of_a_compiled_program_are_counted():
    text = """
    %all-reduce.1 = (f32[64], f32[]) all-reduce(%a, %b), channel_id=1
    %all-reduce-start = f32[2] all-reduce-start(%c), channel_id=2
    %done = f32[2] all-reduce-done(%all-reduce-start)
    """
    assert in_compiled_text(text) == 2


def test_numbers_and_bytes_of_all_reduces_add_up():
    sums = AllReduces({4: 1, 2: 5, 1: 7})
    assert (sums.number, sums.bytes()) == (13, 4 * (4 + 10 + 7))


def test_an_all_reduce_takes_what_a_ring_or_a_tree_takes():
    link = Link("", 1e-3, 4e3)
    assert all_reduce_seconds(100, 1, link) == 0.0
    # Of 400 bytes over 2: there and back.
    assert all_reduce_seconds(100, 2, link) == pytest.approx(2 * (1e-3 + 0.05))
    # Many bytes over 8: a ring. One number over 8: a tree of depth 3.
    assert all_reduce_seconds(100, 8, link) == pytest.approx(14 * (1e-3 + 0.0125))
    assert all_reduce_seconds(1, 8, link) == pytest.approx(6 * (1e-3 + 1e-3))


def test_efficiency_falls_with_devices_and_rises_with_the_batch():
    load = Load(1000, 1.0, AllReduces({5000: 100}))
    (link, *_) = LINKS
    falling = [efficiency(load, 2**k, link) for k in range(11)]
    assert falling[0] == 1.0
    assert falling == sorted(falling, reverse=True)
    samples = samples_that_pay(load, 64, link)
    large = load._replace(samples=samples, seconds=load.seconds * samples / 1000)
    assert efficiency(large, 64, link) == pytest.approx(0.5)
