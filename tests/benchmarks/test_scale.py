"""The cost model of many devices, and how all-reduces are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from benchmarks.scale.communication import AllReduces, counted_of_jax, in_lowered_text
from benchmarks.scale.model import (
    LINKS,
    Link,
    Load,
    all_reduce_seconds,
    efficiency,
    samples_that_pay,
)


def test_all_reduces_in_loops_are_counted_as_often_as_they_run():
    def of_device(x):
        total = jax.lax.psum(x, "d")

        def step(carry, _):
            return carry + jax.lax.psum(x[:2], "d").sum(), None

        looped, _ = jax.lax.scan(step, total.sum(), length=5)
        return jax.lax.while_loop(
            lambda s: s < 1e3, lambda s: s + jax.lax.psum(s, "d"), looped
        )

    mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
    spec = PartitionSpec()
    mapped = jax.jit(
        jax.shard_map(
            of_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
    )
    traced = jax.make_jaxpr(mapped)(jnp.ones(4))
    sums = counted_of_jax(traced.jaxpr, [7])
    assert sums.counts == {4: 1, 2: 5, 1: 7}
    assert (sums.number, sums.bytes()) == (13, 4 * (4 + 10 + 7))
    assert in_lowered_text(mapped.lower(jnp.ones(4)).as_text()) == 3


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
