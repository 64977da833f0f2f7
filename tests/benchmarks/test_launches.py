"""Launches are counted through loops, and an unknown loop is never guessed."""

import pytest

from benchmarks.speed import flops, launches, prediction
from benchmarks.speed.problems import Size


PROGRAM = """\
HloModule jit_update

%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %y = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %y)
}

%outer (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %d = f32[4]{0} dot(%a, %b), lhs_contracting_dims={1}
  ROOT %w = (s32[], f32[4]{0}) while(%p), condition=%c, body=%inner, \
backend_config={"known_trip_count":{"n":"5"}}
}

%search (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  ROOT %r = (s32[], f32[4]{0}) custom-call(%p), custom_call_target="x"
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %c = f32[4]{0} constant({1, 2, 3, 4})
  %s = f32[4]{0} add(%a, %c)
  %w = (s32[], f32[4]{0}) while(%s), condition=%c, body=%outer
  ROOT %v = (s32[], f32[4]{0}) while(%w), condition=%c, body=%search
}
"""


def test_a_loop_counts_as_often_as_it_turns():
    # The sum; ten times a product and five fusions; two searches.
    assert launches.count(PROGRAM, (10, 2)) == 1 + 10 * (1 + 5) + 2


@pytest.mark.parametrize("turns", [(), (10,), (10, 2, 1)])
def test_loops_of_unknown_length_need_a_number_each(turns):
    with pytest.raises(ValueError, match="turns"):
        launches.count(PROGRAM, turns)


def test_the_prediction_follows_the_work():
    small, large = Size("a", 512, 3, 1, (8,)), Size("b", 1024, 3, 1, (8,))
    gpu = prediction.GPUS["H200"]
    found = [
        prediction.predict(
            size,
            launches.count(launches.optimised_program(size), prediction.TURNS),
            gpu,
        )
        for size in (small, large)
    ]
    # Twice the minibatch steps; the policy's launches do not depend on the batch.
    one, two = (prediction_.launches for prediction_ in found)
    assert 1.5 < two / one < 2.0
    work = flops.update(small, 10, 1, 10)
    assert found[0].arithmetic == work.flops / gpu.flops
    assert found[0].seconds >= found[0].starts > found[0].arithmetic
