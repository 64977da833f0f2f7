"""The interface that both backends promise: `act`, `update` and refusals."""

import numpy as np
import pytest

from tests.support.agents import (
    ACT_DIM,
    BACKENDS,
    OBS_DIM,
    as_array,
    fingerprint,
    make_agent,
    make_batch,
    native,
)
from trpo.data.batch import Batch
from trpo.data.report import METRIC_NAMES, StepStatus


pytestmark = pytest.mark.parametrize("backend", BACKENDS)
OBS = np.random.default_rng(1).standard_normal((4, OBS_DIM))


def test_act_answers_in_the_kind_it_was_given(backend):
    shapes = [(4, ACT_DIM), (4, 1), (4, 1)]
    for dtype in (np.float32, np.float64, np.int64):
        numpy_answer = make_agent(backend).act(OBS.astype(dtype))
        native_answer = make_agent(backend).act(native(backend, OBS.astype(dtype)))
        kind = type(native(backend, OBS))
        for from_numpy, from_native, shape in zip(
            numpy_answer, native_answer, shapes, strict=True
        ):
            assert isinstance(from_numpy, np.ndarray)
            assert isinstance(from_native, kind)
            assert from_numpy.shape == tuple(from_native.shape) == shape
            assert from_numpy.dtype == np.float32
            assert from_numpy.tobytes() == as_array(from_native).tobytes()
    agent = make_agent(backend)
    assert isinstance(agent.value(OBS), np.ndarray)
    assert isinstance(agent.value(native(backend, OBS)), kind)
    assert (agent.value(OBS) == agent.act(OBS)[2]).all()


def test_deterministic_actions_draw_nothing_and_samples_draw_one(backend):
    agent = make_agent(backend)
    before = fingerprint(agent)
    mean, log_prob, _ = agent.act(OBS, deterministic=True)
    assert (agent.act(OBS, deterministic=True)[0] == mean).all()
    agent.value(OBS)
    assert fingerprint(agent) == before
    np.testing.assert_allclose(log_prob, -0.5 * ACT_DIM * np.log(2 * np.pi), rtol=1e-6)
    first, second = agent.act(OBS), agent.act(OBS)
    assert not np.isclose(first[0], second[0]).any()
    assert agent.get_state()["random.action_draws"] == 2
    # log_std is 0: the sample is mean + noise, and its density is the noise's.
    noise = first[0] - mean
    expected = -0.5 * (noise**2).sum(1, keepdims=True) - 0.5 * ACT_DIM * np.log(
        2 * np.pi
    )
    np.testing.assert_allclose(first[1], expected, rtol=1e-5)


def test_seeds_decide_weights_and_samples(backend):
    same, again, other = (make_agent(backend, seed=seed) for seed in (5, 5, 6))
    assert fingerprint(same) == fingerprint(again)
    assert (same.act(OBS)[0] == again.act(OBS)[0]).all()
    assert not np.isclose(same.act(OBS)[0], other.act(OBS)[0]).any()


def test_update_takes_every_kind_of_batch(backend):
    batch = make_batch(make_agent(backend))
    columns = {k: v.reshape(40, -1) for k, v in batch.items()}
    rows = {k: v if v.shape[1] > 1 else v[:, 0] for k, v in columns.items()}
    read_only = {k: v.copy() for k, v in rows.items()}
    for array in read_only.values():
        array.flags.writeable = False
    kinds = {
        "rows": rows,
        "columns": columns,
        "float64": {k: v.astype(np.float64) for k, v in rows.items()},
        "fortran": {k: np.asfortranarray(v) for k, v in columns.items()},
        "native": {k: native(backend, v) for k, v in rows.items()},
        "native columns": {k: native(backend, v) for k, v in columns.items()},
        "Batch": Batch(**columns),
        "lists": {k: v.tolist() for k, v in rows.items()},
        "extra": rows | {"rewards": None},
        "read-only": read_only,
    }
    outcomes = {}
    for name, kind in kinds.items():
        agent = make_agent(backend)
        metrics = agent.update(kind)
        outcomes[name] = (metrics, fingerprint(agent))
    for name, outcome in outcomes.items():
        assert outcome == outcomes["rows"], name
    metrics = outcomes["rows"][0]
    assert tuple(metrics) == METRIC_NAMES
    assert all(type(value) is float for value in metrics.values())
    assert metrics["policy/status"] == StepStatus.ACCEPTED


def test_update_leaves_the_batch_alone(backend):
    agent = make_agent(backend)
    batch = make_batch(agent)
    copies = {k: v.copy() for k, v in batch.items()}
    agent.update(batch)
    assert all((batch[k] == copies[k]).all() for k in batch)


@pytest.mark.parametrize("optimizer_type", ["adam", "sgd"])
@pytest.mark.parametrize("fisher_product", ["gauss_newton", "kl_hessian"])
def test_updates_learn_inside_the_trust_region(backend, optimizer_type, fisher_product):
    agent = make_agent(
        backend,
        optimizer_type=optimizer_type,
        fisher_product=fisher_product,
        value_epochs=20,
        value_lr=1e-2,
    )
    batch = make_batch(agent)
    first = agent.update(batch)
    assert first["policy/status"] == StepStatus.ACCEPTED
    assert 0.0 < first["policy/kl"] <= agent.config.target_kl
    assert first["policy/improvement"] > 0.0
    assert first["policy/line_search_accepted"] == 1.0
    losses = [first["loss/value"]] + [agent.update(batch)["loss/value"] for _ in "abc"]
    assert losses[-1] < losses[0]
    assert agent.get_state()["random.minibatch_draws"] == 4


BAD_FIELDS = {
    "obs": [np.zeros((40, 4)), np.zeros(40), np.zeros((0, 3)), np.zeros((40, 3, 1))],
    "actions": [np.zeros((40, 3)), np.zeros((39, 2)), np.zeros(40), np.zeros((1, 2))],
    "log_probs": [np.zeros(39), np.zeros((40, 2)), np.zeros((1, 40)), np.zeros(())],
    "returns": [np.zeros(41), np.zeros((40, 1, 1)), np.zeros((0,))],
    "advantages": [np.zeros(1), np.zeros((40, 40)), np.zeros((1, 1))],
}


@pytest.mark.parametrize("normalize_observations", [False, True])
@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_batches_are_refused_by_name(backend, field, normalize_observations):
    agent = make_agent(backend, normalize_observations=normalize_observations)
    batch = make_batch(agent)
    agent.observe(batch["obs"])
    agent.update(batch)
    before = fingerprint(agent)
    bad = list(BAD_FIELDS[field])
    for poison in (np.nan, np.inf, -np.inf):
        poisoned = np.array(batch[field], dtype=np.float32)
        poisoned.flat[-1] = poison
        bad.append(poisoned)
    bad.append(np.full(batch[field].shape, "a"))
    bad.append(np.full(batch[field].shape, None))
    bad.append(np.full(batch[field].shape, 1j))
    bad += [native(backend, a.copy()) for a in bad if a.dtype.kind == "f" and a.size]
    if not (field == "obs" and normalize_observations):
        bad.append(np.full(batch[field].shape, 1e39))  # Finite, but not as float32.
    missing = {k: v for k, v in batch.items() if k != field}
    refusals = []
    for candidate in [missing, *(batch | {field: value} for value in bad)]:
        refusals.append(refusal(agent, candidate))
        assert fingerprint(agent) == before
    assert [r for r in refusals if not (r.startswith("`") and field in r)] == []


def refusal(agent, batch) -> str:
    """The ValueError's message; what happened in its place if there was none."""
    try:
        agent.update(batch)
    except ValueError as error:
        return str(error)
    except Exception as error:
        return repr(error)
    return "accepted"


@pytest.mark.parametrize("shape", [(OBS_DIM,), (4, 2), (0, OBS_DIM), (4, OBS_DIM, 1)])
def test_act_refuses_other_shapes(backend, shape):
    agent = make_agent(backend)
    before = fingerprint(agent)
    for obs in (np.zeros(shape), native(backend, np.zeros(shape))):
        for call in (agent.act, agent.value):
            with pytest.raises(ValueError, match="`obs`: expected shape"):
                call(obs)
    assert fingerprint(agent) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("obs_dim", 0),
        ("act_dim", 1.5),
        ("action_low", 2.0),
        ("action_low", [0.0, 0.0, 0.0]),
        ("action_high", float("nan")),
        ("device", "abacus"),
        ("device", "cuda:99"),
        ("policy_layer_sizes", ()),
        ("policy_layer_sizes", 64),
        ("critic_layer_sizes", (8, 0)),
        ("critic_layer_sizes", None),
        ("gamma", 1.5),
        ("target_kl", -0.01),
        ("optimizer_type", "lion"),
        ("fisher_product", "empirical"),
        ("dtype", "float16"),
        ("matmul_precision", "int8"),
        ("seed", -1),
        ("observation_clip", 0.0),
        ("cg_damping", float("nan")),
    ],
)
def test_bad_arguments_are_refused_by_name(backend, name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make_agent(backend, **{name: value})


def test_float64(backend):
    if backend == "jax":
        with pytest.raises(ValueError, match=r"`dtype`.*JAX_ENABLE_X64=1"):
            make_agent(backend, dtype="float64")
        return
    agent = make_agent(backend, dtype="float64")
    assert all(a.dtype == np.float64 for a in agent.act(OBS))
    assert agent.update(make_batch(agent))["policy/status"] == StepStatus.ACCEPTED
    floats = [a for n, a in agent.get_state().items() if "random" not in n]
    assert {array.dtype.name for array in floats} == {"float64", "int64"}
