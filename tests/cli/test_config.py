"""Every field of a configuration is checked, and the message names it."""

import dataclasses
import enum
import json
import math
from fractions import Fraction
from pathlib import PurePosixPath

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from trpo.config.callbacks import CallbackConfig
from trpo.config.run import TrainConfig, TRPOConfig


HUGE = 10**400  # No float holds it.
NOT_NUMBERS = (math.nan, math.inf, -math.inf, "1", None, True, [1.0], 1j, HUGE)
NOT_NUMBERS_OR_NONE = tuple(value for value in NOT_NUMBERS if value is not None)
NOT_COUNTS = (0, -1, 1.5, 2.0, math.nan, "3", None, True, [1], 2**31, 2**62, HUGE)
NOT_COUNTS_FROM_0 = (-1, *NOT_COUNTS[2:])
NOT_SIZES = (
    *((), 0, 64, "64", None, (64, 0), (64, -1), (64.0,), ("64",), (True,)),
    *((10**9,), (64, 2**62), (65_536, 65_536), (1,) * 101, {"64": 64}, [[64]]),
)
NOT_NAMES = ("", " ", None, 3, True, "x" * 501, ["x"], "x" * 10**6)
NOT_BOOLS = (0, 1, "true", None)
NOT_CHOICES = ("", "other", None, 3, ["adam"])

BAD_AGENT = {
    "policy_layer_sizes": NOT_SIZES,
    "critic_layer_sizes": NOT_SIZES,
    "activation": ("sigmoid", "Tanh", *NOT_CHOICES),
    "layer_norm": NOT_BOOLS,
    "share_encoder": NOT_BOOLS,
    "recurrent": ("rnn", True, *NOT_CHOICES),
    "recurrent_size": (16_385, *NOT_COUNTS),
    "gamma": (-0.01, 1.01, *NOT_NUMBERS),
    "gae_lambda": (-0.01, 1.01, *NOT_NUMBERS),
    "cost_limit": (-1e-9, *NOT_NUMBERS_OR_NONE),
    "cost_standard_errors": (-0.01, *NOT_NUMBERS),
    "cost_gamma": (-0.01, 1.01, *NOT_NUMBERS),
    "cost_lambda": (-0.01, 1.01, *NOT_NUMBERS),
    "target_kl": (0.0, -0.01, *NOT_NUMBERS),
    "cg_iters": (10_001, *NOT_COUNTS),
    "cg_damping": (-1e-9, *NOT_NUMBERS),
    "cg_residual_tol": (-1e-9, *NOT_NUMBERS),
    "backtrack_coeff": (0.0, 1.0, -0.5, 1.5, *NOT_NUMBERS),
    "backtrack_iters": (1_001, *NOT_COUNTS),
    "value_lr": (0.0, -1.0, *NOT_NUMBERS),
    "value_epochs": (10_001, *NOT_COUNTS),
    "value_minibatch_size": NOT_COUNTS_FROM_0,
    "max_grad_norm": (0.0, -1.0, *NOT_NUMBERS),
    "normalize_advantages": NOT_BOOLS,
    "optimizer_type": ("rmsprop", *NOT_CHOICES),
    "sgd_momentum": (-0.1, 1.0, 1.1, *NOT_NUMBERS),
    "initialization": ("uniform", *NOT_CHOICES),
    "policy_distribution": ("categorical", *NOT_CHOICES),
    "initial_log_std": (-20.1, 2.1, *NOT_NUMBERS),
    "fisher_product": ("hessian", *NOT_CHOICES),
    "fisher_every": NOT_COUNTS,
    "batch_chunk_size": tuple(v for v in (*NOT_COUNTS, 1) if v is not None),
    "entropy_coefficient": (-0.01, *NOT_NUMBERS),
    "line_search": ("backtracking", "batched", True, *NOT_CHOICES),
    "dtype": ("float16", "double", *NOT_CHOICES),
    "matmul_precision": ("high", *NOT_CHOICES),
    "fast_products": ("yes", True, *NOT_CHOICES),
}
NO_FUNCTIONS = (
    *("", " ", "name", "module:", ":name", "a b:c", "../x:c", "m:c:d", 3, True),
    *({}, ["m:c"], "m:" + "c" * 500),
)
BAD_TRAIN = {
    "env_id": NOT_NAMES,
    "modules": (
        *("mine", 3, None, {}, ["a b"], ["a..b"], [""], [None], ["\x1b[2J/mine.py"]),
        *(["a"] * 101, ["/" + "a" * 5000], {"a": 1}),
    ),
    "env_kwargs": (
        *("a", 3, None, ["a"], {"a b": 1}, {"a": None}, {"a": [1]}, {3: 1}, {"": 1}),
        *({"a": float("inf")}, {"a": float("nan")}, {f"a{i}": 1 for i in range(1001)}),
    ),
    "wrapper_class": (
        *("", " ", "Name", "module:", ":Name", "a b:C", "../x:C", "m:C:D", 3, True),
        *({}, ["m:C"], "m:" + "C" * 500),
    ),
    "policy_network": NO_FUNCTIONS,
    "value_network": NO_FUNCTIONS,
    "omit_observations": ("mission", 3, None, {}, [""], [None], [3], ["a"] * 1001),
    "action_masks": ("mask", *NOT_CHOICES),
    "backend": ("tensorflow", *NOT_CHOICES),
    "device": NOT_NAMES,
    "seed": (-1, 2**63, 1.0, None, "0", True, HUGE),
    "total_steps": (10**12, *(n for n in NOT_COUNTS if n != 2**31)),
    "num_envs": (2**20 + 1, *NOT_COUNTS),
    "rollout_steps": (2**30, *NOT_COUNTS),
    "vectorization": ("threads", *NOT_CHOICES),
    "environment_timeout": (0.0, -1.0, 1e6 + 1, 1e300, *NOT_NUMBERS),
    "environment_restarts": NOT_COUNTS_FROM_0,
    "on_bad_data": ("ignore", *NOT_CHOICES),
    "final_target_kl": (0.0, -0.01, *NOT_NUMBERS_OR_NONE),
    "final_value_lr": (0.0, -1.0, *NOT_NUMBERS_OR_NONE),
    "full_radius_advantage_std": (-0.1, *NOT_NUMBERS),
    "normalize_observations": NOT_BOOLS,
    "observation_clip": (0.0, -1.0, *NOT_NUMBERS),
    "scale_returns": NOT_BOOLS,
    "deterministic": NOT_BOOLS,
    "eval_episodes": (100_001, *NOT_COUNTS_FROM_0),
    "eval_max_steps": NOT_COUNTS_FROM_0,
    "eval_interval": NOT_COUNTS_FROM_0,
    "eval_interval_steps": NOT_COUNTS_FROM_0,
    "eval_interval_episodes": NOT_COUNTS,
    "checkpoint_interval": NOT_COUNTS,
    "keep_checkpoints": NOT_COUNTS,
    "agent": (None, {}, "agent"),
    "callbacks": (None, {}, "callbacks", True),
}
BAD_CALLBACKS = {
    "save_best": NOT_BOOLS,
    "stop_at_return": NOT_NUMBERS_OR_NONE,
    "video_every": NOT_COUNTS_FROM_0,
    "wandb_project": tuple(v for v in NOT_NAMES if v is not None),
}


def cases(kind, bad):
    for name, values in bad.items():
        for value in values:
            yield pytest.param(kind, name, value, id=f"{name}={value!r}"[:60])


def build(kind, **values):
    required = {"env_id": "Pendulum-v1"} if kind is TrainConfig else {}
    return kind(**(required | values))


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (TRPOConfig, BAD_AGENT),
        (TrainConfig, BAD_TRAIN),
        (CallbackConfig, BAD_CALLBACKS),
    ],
)
def test_no_field_is_forgotten_here(kind, bad):
    assert set(bad) == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *cases(TRPOConfig, BAD_AGENT),
        *cases(TrainConfig, BAD_TRAIN),
        *cases(CallbackConfig, BAD_CALLBACKS),
    ],
)
def test_bad_values_are_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=f"^`{name}`: expected .*got") as error:
        build(kind, **{name: value})
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0.0),
        ("gamma", 1.0),
        ("gamma", 1),
        ("gae_lambda", 0.0),
        ("gae_lambda", 1.0),
        ("cg_damping", 0.0),
        ("value_minibatch_size", 0),
        ("cg_residual_tol", 0.0),
        ("sgd_momentum", 0.0),
        ("initial_log_std", -20.0),
        ("initial_log_std", 2.0),
        ("backtrack_coeff", 1e-9),
        ("cg_iters", 1),
        ("policy_layer_sizes", [1]),
        ("target_kl", 1e300),
        ("value_minibatch_size", 2**31 - 1),
        ("policy_layer_sizes", [65_536, 32_767]),
        ("policy_layer_sizes", [1] * 100),
    ],
)
def test_borders_are_allowed(name, value):
    got = getattr(TRPOConfig(**{name: value}), name)
    assert got == (tuple(value) if isinstance(value, list) else value)


def test_frozen_keyword_only_hashable_and_spelling():
    config = TRPOConfig(policy_layer_sizes=[8, 8], optimizer_type=" Adam ")
    assert config.optimizer_type == "adam"
    assert hash(config) == hash(TRPOConfig(policy_layer_sizes=(8, 8)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gamma = 0.5
    with pytest.raises(TypeError):
        TRPOConfig((8, 8))


@pytest.mark.parametrize(
    ("total", "envs", "steps", "updates"),
    [(1, 1, 1, 1), (100, 8, 16, 1), (128, 8, 16, 1), (129, 8, 16, 2), (7, 1, 2, 4)],
)
def test_updates_cover_the_budget(total, envs, steps, updates):
    config = build(TrainConfig, total_steps=total, num_envs=envs, rollout_steps=steps)
    assert config.num_updates == updates


unit = st.floats(0.0, 1.0)
positive = st.floats(1e-12, 1e6)
counts, iterations = st.integers(1, 10**6), st.integers(1, 10**4)
sizes = st.lists(st.integers(1, 512), min_size=1, max_size=4)
agents = st.builds(
    TRPOConfig,
    policy_layer_sizes=sizes,
    critic_layer_sizes=sizes,
    gamma=unit,
    gae_lambda=unit,
    target_kl=positive,
    cg_iters=iterations,
    value_lr=positive,
    optimizer_type=st.sampled_from(["adam", "sgd"]),
    initial_log_std=st.floats(-20.0, 2.0),
    normalize_advantages=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
trains = st.builds(
    TrainConfig,
    env_id=st.text(min_size=1, max_size=500).filter(str.strip),
    backend=st.sampled_from(["jax", "torch"]),
    env_kwargs=st.dictionaries(
        st.sampled_from("abc"), st.booleans() | st.integers() | st.text(max_size=9)
    ),
    wrapper_class=st.none() | st.just("module.of:Wrapper"),
    policy_network=st.none() | st.just("module.of:policy"),
    omit_observations=st.lists(st.just("key"), max_size=3),
    seed=st.integers(0, 2**63 - 1),
    total_steps=counts,
    num_envs=counts,
    observation_clip=positive,
    scale_returns=st.booleans(),
    deterministic=st.booleans(),
    agent=agents,
    eval_interval=counts,
    callbacks=st.builds(
        CallbackConfig,
        save_best=st.booleans(),
        stop_at_return=st.none() | st.floats(-1e6, 1e6),
        video_every=st.integers(0, 100),
        wandb_project=st.none() | st.just("project"),
    ),
)


@given(trains)
def test_round_trip_through_json(config):
    assert hash(config) == hash(dataclasses.replace(config))
    values = json.loads(json.dumps(config.to_dict()))
    assert TrainConfig.from_dict(values) == config
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "TrainConfig.*'colour'"),
        ({"agent": {"colour": 1}}, "TRPOConfig.*'colour'"),
        ({"agent": {"gamma": 2}}, "`gamma`"),
        ({"env_id": None}, "`env_id`"),
        ({"num_envs": 0}, "`num_envs`"),
        ({"agent": None}, "`?agent"),
        ({"agent": [1]}, "`?agent"),
        ({"agent": "x"}, "`?agent"),
        ({"callbacks": {"colour": 1}}, "CallbackConfig.*'colour'"),
        ({"callbacks": [1]}, "`callbacks`"),
        ({"callbacks": {"save_best": True}}, "`save_best`.*--eval-interval"),
        ({"callbacks": {"stop_at_return": 0.0}}, "`stop_at_return`.*--eval-interval"),
        ({"callbacks": {"video_every": 1}}, "`video_every`.*--eval-interval"),
    ],
)
def test_from_dict_refuses_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict({"env_id": "Pendulum-v1"} | change)


def test_from_dict_needs_an_environment_only():
    assert TrainConfig.from_dict({"env_id": "E"}) == TrainConfig(env_id="E")
    with pytest.raises(ValueError, match="expected a field 'env_id', got none"):
        TrainConfig.from_dict({})


@pytest.mark.parametrize("value", [np.array([3]), np.ones(2), np.float32(np.inf)])
@pytest.mark.parametrize("name", ["seed", "observation_clip", "num_envs", "backend"])
def test_arrays_and_infinities_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        TrainConfig(env_id="A-v0", **{name: value})


class Named(enum.StrEnum):
    """Text that is more than that."""

    ADAM = "adam"


class Index:
    """Counts, and is no number."""

    def __index__(self):
        return 4


NUMPY = {
    bool: (np.bool_, np.array),
    int: (np.uint8, np.int16, np.uint32, np.int64, np.array),
    float: (np.float16, np.float32, np.float64, np.longdouble, np.array, Fraction),
    str: (np.str_,),
}
# Of fields whose default is None, or a number that not every kind can hold.
VALUES = {"batch_chunk_size": 4, "wandb_project": "x", "cg_residual_tol": 0.5,
          "wrapper_class": "module:Class", "policy_network": "module:function",
          "value_network": "module:function",
          "total_steps": 9, "value_minibatch_size": 8, "rollout_steps": 8}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "needed"),
    [(TRPOConfig, {}), (CallbackConfig, {}), (TrainConfig, {"env_id": "A-v0"})],
    ids=["agent", "callbacks", "run"],
)
def test_numbers_flags_and_text_of_other_kinds_become_python_s(kind, needed):
    for name, value in dataclasses.asdict(kind(**needed)).items():
        if value is None or name in VALUES:
            value = VALUES.get(name, 0.5)
        for other in NUMPY.get(type(value), ()):
            given = other(value)
            # As float16 it may be another number, which is then the one that is meant.
            expected = type(value)(given)
            made = dataclasses.asdict(kind(**{**needed, name: given}))
            assert type(made[name]) is type(value), (name, other)
            assert made == dataclasses.asdict(kind(**{**needed, name: expected}))
            assert json.loads(json.dumps(made))[name] == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"device": PurePosixPath("cpu")}, {"device": "cpu"}),
        ({"seed": Index()}, {"seed": 4}),
        ({"env_kwargs": {"g": np.float32(0.5)}}, {"env_kwargs": {"g": 0.5}}),
        ({"seed": torch.tensor(7)}, {"seed": 7}),
        ({"observation_clip": jnp.float32(2.5)}, {"observation_clip": 2.5}),
        ({"agent": TRPOConfig(optimizer_type=Named.ADAM)}, {}),
        ({"agent": TRPOConfig(policy_layer_sizes=[np.int8(64)] * 2)}, {}),
        ({"agent": TRPOConfig(policy_layer_sizes=(Index(),))},
         {"agent": TRPOConfig(policy_layer_sizes=(4,))}),
    ],
    ids=str,
)  # fmt: skip
def test_so_do_paths_enums_indices_and_frameworks_numbers(change, expected):
    made = TrainConfig(env_id="A-v0", **change)
    text = json.dumps(made.to_dict())
    assert text == json.dumps(TrainConfig(env_id="A-v0", **expected).to_dict())
    assert TrainConfig.from_dict(json.loads(text)) == made


@pytest.mark.parametrize("values", [[], None, 3, "env_id", [["env_id", "E"]], True])
def test_what_is_no_dictionary_is_no_configuration(values):
    with pytest.raises(ValueError, match="`TrainConfig`: expected a dictionary, got"):
        TrainConfig.from_dict(values)


def test_a_run_has_no_more_steps_than_a_checkpoint_s_name_has_digits():
    with pytest.raises(ValueError, match=r"`total_steps`: expected at most .* whole"):
        build(TrainConfig, total_steps=10**12 - 1, num_envs=1000, rollout_steps=1000)
