"""State: canonical, the same in both backends, and never changed by half."""

import importlib

import numpy as np
import pytest

from tests.support.agents import (
    BACKENDS,
    OBS_DIM,
    backend_module,
    fingerprint,
    make_agent,
    make_batch,
)
from trpo.data.report import StepStatus


both = pytest.mark.parametrize("backend", BACKENDS)
KINDS = [
    {"optimizer_type": "adam"},
    {"optimizer_type": "sgd"},
    {"optimizer_type": "sgd", "sgd_momentum": 0.0},
    {"optimizer_type": "adam", "normalize_observations": True},
]
OBS = np.random.default_rng(1).standard_normal((4, OBS_DIM)).astype(np.float32)


def trained(backend, updates=2, **changes):
    agent = make_agent(backend, **changes)
    for i in range(updates):
        batch = make_batch(agent, seed=i)
        agent.observe(batch["obs"])
        agent.update(batch)
    return agent


def expected_layout(kind) -> dict[str, tuple[str, tuple[int, ...]]]:
    sizes = {
        "policy.log_std": (2,),
        "policy.layers.0.weight": (5, 3),
        "policy.layers.0.bias": (5,),
        "policy.layers.1.weight": (4, 5),
        "policy.layers.1.bias": (4,),
        "policy.layers.2.weight": (2, 4),
        "policy.layers.2.bias": (2,),
        "value.layers.0.weight": (6, 3),
        "value.layers.0.bias": (6,),
        "value.layers.1.weight": (1, 6),
        "value.layers.1.bias": (1,),
    }
    slots = ("first_moment", "second_moment")
    if kind["optimizer_type"] == "sgd":
        slots = ("momentum",)
    for slot in slots:
        for name in [name for name in sizes if name.startswith("value.")]:
            inner = name.removeprefix("value.")
            sizes[f"value_optimizer.{slot}.{inner}"] = sizes[name]
    layout = {name: ("float32", shape) for name, shape in sizes.items()}
    counters = ["random.seed", "random.action_draws", "random.minibatch_draws"]
    if kind["optimizer_type"] == "adam":
        counters.append("value_optimizer.step")
    layout |= dict.fromkeys(counters, ("int64", ()))
    if kind.get("normalize_observations"):
        normalizer = "observation_normalizer"
        layout[f"{normalizer}.count"] = ("float64", ())
        layout[f"{normalizer}.mean"] = ("float64", (OBS_DIM,))
        layout[f"{normalizer}.squared_deviations"] = ("float64", (OBS_DIM,))
    return layout


@both
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[3]], ids=str)
@pytest.mark.parametrize("updates", [0, 2])
def test_names_shapes_and_dtypes_are_canonical(backend, kind, updates):
    state = trained(backend, updates, **kind).get_state()
    got = {name: (array.dtype.name, array.shape) for name, array in state.items()}
    assert got == expected_layout(kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_both_backends_have_the_same_names(kind):
    states = [make_agent(backend, **kind).get_state() for backend in BACKENDS]
    assert set(states[0]) == set(states[1])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("source", "target"), [("torch", "jax"), ("jax", "torch")])
def test_a_state_crosses_over_and_back_bit_for_bit(source, target, kind):
    one, other = trained(source, **kind), trained(target, 1, seed=9, **kind)
    other.set_state(one.get_state())
    assert fingerprint(other) == fingerprint(one)
    back = make_agent(source, seed=3, **kind)
    back.set_state(other.get_state())
    assert fingerprint(back) == fingerprint(one)
    # Both go on alike: same noise, same normalisation, same optimiser.
    for got, expected in zip(other.act(OBS), one.act(OBS), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    back.act(OBS)
    for agent in (one, other, back):
        agent.update(make_batch(agent, seed=7))
    assert fingerprint(back) == fingerprint(one)
    for name, array in one.get_state().items():
        np.testing.assert_allclose(
            other.get_state()[name], array, rtol=2e-3, atol=2e-4, err_msg=name
        )


@both
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_resumed_agent_goes_on_bit_for_bit(backend, kind):
    agent = trained(backend, **kind)
    resumed = make_agent(backend, seed=8, **kind)
    resumed.set_state(agent.get_state())
    for one in (agent, resumed):
        batch = make_batch(one, seed=5)
        one.observe(batch["obs"])
        one.metrics = one.update(batch)
    assert agent.metrics == resumed.metrics
    assert fingerprint(agent) == fingerprint(resumed)
    assert all(
        (a == b).all() for a, b in zip(agent.act(OBS), resumed.act(OBS), strict=True)
    )


@both
def test_states_are_copies(backend):
    agent = trained(backend, normalize_observations=True)
    before, state = fingerprint(agent), agent.get_state()
    for array in state.values():
        array += 1
    assert fingerprint(agent) == before
    agent.set_state(state)
    before = fingerprint(agent)
    for array in state.values():
        array += 1
    assert fingerprint(agent) == before


def damaged_states(state):
    """(name that has to be in the message, state) of each kind of damage."""
    for name, array in state.items():
        yield name, {n: a for n, a in state.items() if n != name}
        yield name, state | {name: array[None]}
        other = np.float64 if array.dtype == np.float32 else np.float32
        yield name, state | {name: array.astype(other)}
        if array.dtype.kind == "f":
            poisoned = array.copy()
            poisoned.flat[-1] = np.nan
            yield name, state | {name: poisoned}
        if array.ndim == 2 and array.shape[0] != array.shape[1]:
            yield name, state | {name: array.T}
    negative = [n for n, a in state.items() if a.dtype.kind == "i"]
    negative += [n for n in state if "second_moment" in n]
    negative += [n for n in state if n.endswith(("deviations", "damping"))]
    for name in [*negative, *(n for n in state if n.endswith(".count"))]:
        yield name, state | {name: state[name] * 0 - 1}
    yield "policy.extra", state | {"policy.extra": np.zeros(1)}
    yield "layers.9", state | {"policy.layers.9.weight": np.zeros((2, 2))}


@both
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=str)
def test_a_damaged_state_changes_nothing(backend, kind):
    agent = trained(backend, 1, **kind)
    before = fingerprint(agent)
    replacement = trained(backend, 2, seed=4, **kind).get_state()
    for name, damaged in damaged_states(replacement):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            agent.set_state(damaged)
    assert fingerprint(agent) == before
    agent.set_state(replacement)
    assert fingerprint(agent) != before


@both
@pytest.mark.parametrize("field", ["returns", "advantages"])
@pytest.mark.parametrize("scale", [1e25, 1e38])
@pytest.mark.parametrize("kind", [KINDS[1], KINDS[3]], ids=str)
def test_overflow_leaves_every_byte_as_it_was(backend, field, scale, kind):
    agent = trained(backend, 1, **kind)
    batch, snapshot = make_batch(agent), agent.snapshot()
    agent.act(batch["obs"])  # Draws, which is no weight.
    before = fingerprint(agent)
    huge = batch | {field: np.full(40, scale) * batch[field].clip(-2, 2)}
    for known in (None, snapshot):
        metrics = agent.update(huge, before=known)
        assert metrics["policy/status"] == StepStatus.NON_FINITE
        assert fingerprint(agent) == before
    # The report does not claim a step that was not taken.
    assert metrics["policy/line_search_accepted"] == 0.0
    assert metrics["policy/line_search_frac"] == 0.0
    assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED


@both
def test_zero_advantages_move_the_critic_alone(backend):
    agent = make_agent(backend)
    before = fingerprint(agent)
    metrics = agent.update(make_batch(agent) | {"advantages": np.zeros(40)})
    assert metrics["policy/status"] == StepStatus.ZERO_GRADIENT
    after = fingerprint(agent)
    changed = {name.split(".")[0] for name in before if before[name] != after[name]}
    assert changed == {"value", "value_optimizer", "random"}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("updates", [0, 2])
def test_an_exception_in_the_critics_fit_undoes_the_update(
    monkeypatch, kind, error, updates
):
    module = backend_module("torch", "agent.agent")
    agent = trained("torch", updates, **kind)
    batch, real = make_batch(agent), module.fit_critic
    before = fingerprint(agent)

    def fails_at_the_end(*arguments, **options):
        real(*arguments, **options)
        assert fingerprint(agent) != before
        raise error("injected")

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit_critic", fails_at_the_end)
        with pytest.raises(error, match="injected"):
            agent.update(batch)
    assert fingerprint(agent) == before
    # It also goes on as if nothing had happened.
    untouched = make_agent("torch", seed=1, **kind)
    untouched.set_state(agent.get_state())
    assert agent.update(batch) == untouched.update(batch)
    assert fingerprint(agent) == fingerprint(untouched)


def test_the_jax_update_is_compiled_once_for_each_batch_shape():
    update = backend_module("jax", "agent.update").update
    jnp = importlib.import_module("jax.numpy")
    # Sizes that no other test has, since agents of equal sizes share a compilation.
    sizes = {"policy_layer_sizes": (7,), "critic_layer_sizes": (3,)}
    before = update._cache_size()
    agent = make_agent("jax", **sizes)
    for i in range(3):
        agent.update(make_batch(agent, seed=i))
    assert update._cache_size() == before + 1
    agent.set_state(agent.get_state())
    agent.update(make_batch(agent))
    agent.update({k: jnp.asarray(v) for k, v in make_batch(agent).items()})
    twin = make_agent("jax", seed=1, **sizes)
    twin.update(make_batch(twin))
    assert update._cache_size() == before + 1
    agent.update(make_batch(agent, size=24))
    agent.update(make_batch(agent, size=24, seed=1))
    assert update._cache_size() == before + 2


@both
@pytest.mark.parametrize(
    "obs",
    [
        np.zeros((4, 2 * OBS_DIM)),
        np.zeros(2),
        np.full((4, OBS_DIM), np.nan),
        np.full((4, OBS_DIM), np.inf),
    ],
    ids=["wide", "narrow", "nan", "inf"],
)
def test_bad_observations_do_not_poison_the_normaliser(backend, obs):
    agent = trained(backend, 1, normalize_observations=True)
    before = fingerprint(agent)
    with pytest.raises(ValueError, match="`obs`"):
        agent.observe(obs)
    assert fingerprint(agent) == before
