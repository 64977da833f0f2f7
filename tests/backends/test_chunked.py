"""A batch in chunks: the update of the whole batch, in less memory."""

import numpy as np
import pytest

from tests.support.agents import BACKENDS, make_agent, make_batch, native


UNEVEN = {"batch_chunk_size": 16, "value_minibatch_size": 8}  # Of 41: 16, 16, 9.


@pytest.mark.parametrize("route", ["gauss_newton", "kl_hessian"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_make_the_update_of_the_whole_batch(backend, route):
    whole, chunked = (
        make_agent(backend, fisher_product=route, cg_iters=4, **options)
        for options in ({"value_minibatch_size": 8}, UNEVEN)
    )
    batch = make_batch(whole, 41)
    expected, got = whole.update(batch), chunked.update(batch)
    assert got["policy/status"] == expected["policy/status"] == 0
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    learned = {n: a for n, a in whole.get_state().items() if "random" not in n}
    for name, array in learned.items():
        other = chunked.get_state()[name]
        np.testing.assert_allclose(other, array, rtol=2e-4, atol=2e-6, err_msg=name)


def test_an_uneven_rest_counts_by_its_samples(monkeypatch):
    """Where chunks are averaged, not added up, the last one weighs too much."""
    from trpo_torch.devices import reduction

    monkeypatch.setattr(reduction, "weighted", lambda tangent: tangent)
    whole, chunked = make_agent("torch"), make_agent("torch", **UNEVEN)
    batch = make_batch(whole, 41)
    with pytest.raises(AssertionError):
        assert chunked.update(batch)["policy/predicted_kl"] == pytest.approx(
            whole.update(batch)["policy/predicted_kl"], rel=1e-3
        )


def test_torch_keeps_the_activations_of_one_chunk():
    import torch

    def peak(rows: int | None) -> int:
        agent = make_agent(
            "torch", policy_layer_sizes=(256,), batch_chunk_size=rows, value_epochs=1,
            # Of plain tanh networks autograd keeps nothing: derivatives are by hand.
            cg_iters=2, activation="silu",
        )  # fmt: skip
        batch = {n: native("torch", a) for n, a in make_batch(agent, 4096).items()}
        kept = []

        def keep(tensor):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            agent.update(batch)
        return max(kept)

    assert peak(None) >= 4096 * 256
    assert peak(256) <= 256 * 256


def test_jax_needs_less_memory_for_chunks():
    from trpo_jax.agent.update import update

    def temporary(rows: int | None) -> int:
        agent = make_agent(
            "jax", policy_layer_sizes=(64,), batch_chunk_size=rows, value_epochs=1
        )
        batch = agent._check_batch(make_batch(agent, 8192))
        orders = np.zeros((1, 8192), np.int32)
        lowered = update.lower(
            agent.backend.functions, agent.config.step_options(), agent.backend.state,
            batch, orders, agent.backend.in_dtype_of(agent.config.step_numbers()),
        )  # fmt: skip
        return lowered.compile().memory_analysis().temp_size_in_bytes

    whole, chunked = temporary(None), temporary(512)
    assert chunked < 0.6 * whole, (chunked, whole)
