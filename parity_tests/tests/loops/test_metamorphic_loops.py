"""What may not matter to a loop: the order of rows and of environments, and when.

And what a row counts: twice with half of the weight it is itself. Of the host's loop,
and of the compiled one, in float64.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch

from parity_tests.common.process_setup import QUICK
from parity_tests.tests.loops.test_pairwise import ENVS, ROWS, STEPS, trainer_of
from trpo.data.batch import Batch
from trpo.data.hidden_state import Memory
from trpo_torch.agent.update import policy_function
from trpo_torch.devices import reduction
from trpo_torch.policy_step.step import policy_step as torch_step


KINDS = ("reals", "masked", "gru", "costs")
PLAIN = {
    "mode": "same step", "schedule": "constant", "value_minibatch_size": 13,
    "fisher_every": 1, "batch_chunk_size": None, "scaled": True,
    "optimizer_type": "adam", "line_search": "sequential",
}  # fmt: skip
BOUND = {"rtol": 1e-8, "atol": 1e-10}


def plain(kind, fate="bad", **changes):
    return {"kind": kind, "fate": fate} | PLAIN | changes


@functools.cache
def collected(kind):
    """A trainer after an update, and its next rollout, with rows that are none."""
    trainer = trainer_of(plain(kind), {})
    trainer.train_once()
    rollout = trainer.collector.collect(trainer.agent, STEPS)
    assert 0 < (~rollout.valid).sum() < rollout.valid.size
    return trainer, rollout


def changed(rollout, change):
    """A rollout; each of its arrays [T, B, …], and of its costs', is changed."""

    def of(fields):
        arrays = {
            name: change(array)
            for name, array in fields._asdict().items()
            if isinstance(array, np.ndarray)
        }
        return fields._replace(**arrays)

    costs = None if rollout.costs is None else of(rollout.costs)
    return of(rollout)._replace(costs=costs)


def prepared(trainer, rollout):
    """What becomes of a rollout, and of the statistics; the trainer is as before."""
    before = trainer.snapshot()
    try:
        inputs = trainer.prepare_batch(rollout)
        trainer.agent.observe(rollout.obs[rollout.valid])
        return inputs, trainer.get_state()
    finally:
        trainer.restore(before)


def samples_of(batch):
    """The samples of a batch, in the order of their observations."""
    fields = batch._asdict()
    valid = fields.pop("valid", None)
    fields = {
        name: np.asarray(array if valid is None else array[valid])
        for name, array in fields.items()
        if name not in ("memory", "weights", "cost_excess") and array is not None
    }
    order = np.lexsort(fields["obs"].T)
    return {name: array[order] for name, array in fields.items()}


def assert_same(found, wanted):
    (inputs, state), (other, other_state) = found, wanted
    left, right = samples_of(inputs.batch), samples_of(other.batch)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_allclose(array, right[name], **BOUND, err_msg=name)
    assert inputs.advantage_std == pytest.approx(other.advantage_std, rel=1e-12)
    excess = getattr(inputs.batch, "cost_excess", 0.0)
    assert float(excess) == pytest.approx(float(getattr(other.batch, "cost_excess", 0)))
    for name, array in state.items():
        if not name.endswith("discounted"):
            np.testing.assert_allclose(array, other_state[name], **BOUND, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_environments_may_come_in_any_order(kind):
    trainer, rollout = collected(kind)
    wanted = prepared(trainer, rollout)
    order = np.array([2, 0, 1])
    moved = changed(rollout, lambda array: array[:, order])
    if rollout.memory is not None:
        moved = moved._replace(memory=Memory(*(s[order] for s in rollout.memory)))
    before = trainer.snapshot()
    scalers = [
        trainer.return_scaler,
        *([trainer.costs.scaler] if trainer.costs else []),
    ]
    for scaler in scalers:
        scaler.discounted = scaler.discounted[order]
    found = prepared(trainer, moved)
    trainer.restore(before)
    assert_same(found, wanted)
    for name in ("return_scaler.discounted", "costs.discounted"):
        if name in wanted[1]:
            np.testing.assert_allclose(found[1][name], wanted[1][name][order], **BOUND)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_none_may_come_before_and_after(kind):
    """Time is shifted by rows of junk, as where environments only reset."""
    trainer, rollout = collected(kind)
    for scaler in (trainer.return_scaler, getattr(trainer.costs, "scaler", None)):
        if scaler is not None:
            scaler.discounted = np.zeros(ENVS)
    wanted = prepared(trainer, rollout)
    junk = {"f": 77.0, "b": True, "i": 3}

    def shift(array):
        row = np.full_like(array[:1], junk[array.dtype.kind])
        return np.concatenate([row, array, row])

    shifted = changed(rollout, shift)
    shifted.valid[[0, -1]] = False
    # The last step was cut off by the rollout's end: it is by the next row now.
    shifted.truncated[-2] |= ~shifted.terminated[-2]
    assert_same(prepared(trainer, shifted), wanted)


def updated(kind, backend, order=None, **changes):
    """State and report of an agent's update with a rollout's samples in an order."""
    _, rollout = collected(kind)
    source, _ = collected(kind)
    trainer = trainer_of(plain(kind, **changes), {}, backend)
    trainer.agent.set_state(source.agent.get_state())
    batch = prepared(source, rollout)[0].batch
    if order is not None:
        batch = type(batch)(
            *(array[order] if np.ndim(array) else array for array in batch)
        )
        inverse = np.argsort(order)
        draw = trainer.agent.state.minibatch_orders
        trainer.agent.state.minibatch_orders = lambda *sizes: inverse[draw(*sizes)]
    report = trainer.agent.update(batch)
    return trainer.agent.get_state(), report


@pytest.mark.parametrize(
    ("kind", "backend"), [("masked", "torch"), ("costs", "torch"), ("costs", "jax")]
)
def test_samples_may_come_in_any_order(kind, backend):
    _, rollout = collected(kind)
    order = np.random.default_rng(1).permutation(int(rollout.valid.sum()))
    (state, report), (other, other_report) = (
        updated(kind, backend, chosen, value_minibatch_size=10)
        for chosen in (None, order)
    )
    assert report["policy/line_search_accepted"] == 1.0
    for name, array in state.items():
        np.testing.assert_allclose(array, other[name], **BOUND, err_msg=name)
    for name, value in report.items():
        assert other_report[name] == pytest.approx(value, rel=1e-7, abs=1e-10), name


@pytest.mark.parametrize("kind", ["masked", "gru", "costs"])
def test_rates_of_an_update_are_those_of_an_agent_that_has_them(kind):
    """Of all its critics, and of whatever step it takes."""
    source, rollout = collected(kind)
    rates = {"target_kl": 3e-3, "value_lr": 7e-4}
    states = []
    for configured in (False, True):
        trainer = trainer_of(plain(kind), {})
        agent = trainer.agent
        if configured:
            config = dataclasses.replace(agent.config, **rates)
            agent = type(agent).from_config(
                trainer.spec, config, normalize_observations=True
            )
        agent.set_state(source.agent.get_state())
        batch = prepared(source, rollout)[0].batch
        report = agent.update(batch, **({} if configured else rates))
        states.append((agent.get_state(), report))
    (state, report), (other, other_report) = states
    assert report == other_report
    for name, array in state.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_a_row_twice_with_half_the_weight_is_itself_in_jax():
    source, rollout = collected("masked")
    row = plain("masked", value_minibatch_size=0)
    agent = trainer_of(row, {}, "jax").agent
    agent.set_state(source.agent.get_state())
    backend = agent.backend
    numbers = backend.in_dtype_of(agent.config.step_numbers())
    batch = agent._check_batch(prepared(source, rollout)[0].batch)
    batch = Batch(*(None if f is None else np.asarray(f) for f in batch))
    size = len(batch.obs)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, (size, 1))
    twice = Batch(*(None if f is None else np.concatenate([f, f]) for f in batch))
    run = jax.jit(
        _update_of_jax().__wrapped__, static_argnums=(0, 1), compiler_options=QUICK
    )

    def outcome(batch, weights):
        orders = np.arange(len(weights), dtype=np.int32)[None].repeat(2, 0)
        learned, report = run(
            backend.functions, agent.config.step_options(), backend.learned(),
            batch._replace(weights=weights), orders, numbers,
        )  # fmt: skip
        flat = [np.ravel(leaf) for leaf in jax.tree.leaves((learned, report))]
        return np.concatenate(flat)

    # A critic's weights say which rows are samples: 0 and 1 alone, a share is none.
    policy = len(np.concatenate([np.ravel(x) for x in jax.tree.leaves(backend.policy)]))
    wanted = outcome(batch, weights)[:policy]
    np.testing.assert_allclose(outcome(batch, 2.0 * weights)[:policy], wanted, **BOUND)
    halves = outcome(twice, np.concatenate([weights, weights]) / 2.0)[:policy]
    np.testing.assert_allclose(halves, wanted, **BOUND)
    even = outcome(batch, np.ones((size, 1)))[:policy]
    assert np.abs(even - wanted).max() > 1e-4


def _update_of_jax():
    from trpo_jax.agent.update import update

    return update


@pytest.mark.parametrize("rows", [None, 7])
def test_a_row_twice_with_half_the_weight_is_itself_in_torch(rows):
    source, rollout = collected("masked")
    agent = source.agent
    batch = agent._check_batch(prepared(source, rollout)[0].batch)
    size = len(batch.obs)
    weights = torch.from_numpy(
        np.random.default_rng(2).uniform(0.5, 2.0, (size, 1)) / size
    )
    twice = Batch(*(None if f is None else torch.cat([f, f]) for f in batch))
    options = agent.config.step_options()
    theta = torch.cat([p.detach().reshape(-1) for p in agent.policy.parameters()])

    def outcome(batch, weights, rows=None):
        with reduction.sharded(reduction.Shard(weights, across=False)):
            function = policy_function(agent.policy, batch.obs, batch.action_mask, rows)
            numbers = agent.config.step_numbers()
            return torch_step(function, theta, batch, options, numbers)

    wanted = outcome(batch, weights)
    assert float(wanted.line_search_accepted) == 1.0
    for found in (
        outcome(batch, weights, rows),
        outcome(twice, torch.cat([weights, weights]) / 2.0, rows),
    ):
        np.testing.assert_allclose(found.theta, wanted.theta, **BOUND)
        for name in ("kl", "improvement", "entropy", "ratio_std"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(wanted, name), rtol=1e-7, err_msg=name
            )
    even = outcome(batch, torch.full_like(weights, 1.0 / size))
    assert (even.theta - wanted.theta).abs().max() > 1e-4


def test_rows_here_are_among_those_of_pairs():
    assert {row["kind"] for row in ROWS} >= set(KINDS)
