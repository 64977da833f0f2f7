"""Numbers of every type that a space has: refused by name, or trained and saved."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.support.agents import BACKENDS
from trpo.config.presets import preset_config
from trpo.runs.checkpoint import load_checkpoint, save_checkpoint
from trpo.spaces.spaces import UnsupportedSpaceError, policy_spec
from trpo.training.trainer import Trainer


PLAIN = spaces.Box(-1.0, 1.0, (2,), np.float32)
INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
TYPES = ["bool", *INTEGERS, *(f"float{bits}" for bits in (16, 32, 64)), "longdouble"]
SWAPPED = [">i2", ">f4"]


def box(kind, shape=(2,)):
    """Of all that the type can hold, if it is whole numbers."""
    if kind.kind not in "iu":
        return spaces.Box(0, 1, shape, kind)
    limits = np.iinfo(kind)
    return spaces.Box(limits.min, limits.max, shape, kind)


SHAPES = {
    "Box": box,
    "Discrete": lambda kind: spaces.Discrete(3, dtype=kind.type),
    "last": lambda kind: spaces.Discrete(
        3, start=np.iinfo(kind).max - 3, dtype=kind.type
    ),
    "MultiDiscrete": lambda kind: spaces.MultiDiscrete([3, 2], dtype=kind.type),
    "Dict": lambda kind: spaces.Dict(a=box(kind), b=spaces.MultiBinary(2)),
    "Tuple": lambda kind: spaces.Tuple([spaces.Discrete(2, dtype=kind.type), PLAIN]),
}


class Sampled(gymnasium.Env):
    """Shows what its space samples; takes what its space contains."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.count += 1
        return self.observation_space.sample(), 1.0, self.count == 5, False, {}


gymnasium.register("TrpoTest/Sampled-v0", Sampled, disable_env_checker=True)


def made(kind, shape):
    """The space, or None where Gymnasium has none of this type."""
    try:
        return SHAPES[shape](np.dtype(kind))
    except (TypeError, ValueError):
        return None


def trained_saved_and_resumed(observation_space, action_space, backend, directory):
    kwargs = gymnasium.registry["TrpoTest/Sampled-v0"].kwargs
    kwargs.update(observation_space=observation_space, action_space=action_space)
    config = preset_config(
        "TrpoTest/Sampled-v0", backend=backend, num_envs=2, rollout_steps=6,
        total_steps=24, policy_layer_sizes=(3,), critic_layer_sizes=(3,), cg_iters=1,
        value_epochs=1, normalize_observations=True, scale_returns=True,
    )  # fmt: skip
    trainer, resumed = Trainer(config), Trainer(config)
    trainer.train_once()
    path = save_checkpoint(directory, 12, trainer.get_state(), {}, keep=1)
    assert resumed.set_state(load_checkpoint(path).arrays) == ()
    for one in (trainer, resumed):
        one.train_once()
    after = resumed.get_state()
    for name, array in trainer.get_state().items():
        assert after[name].dtype == array.dtype, name
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    return after


@pytest.mark.parametrize("role", ["observation", "action"])
@pytest.mark.parametrize("kind", [*TYPES, *SWAPPED])
def test_it_is_refused_by_name_or_trained_saved_and_resumed(tmp_path, kind, role):
    usable, refusals = 0, []
    for shape in SHAPES:
        space = made(kind, shape)
        if space is None:
            continue
        pair = (space, PLAIN) if role == "observation" else (PLAIN, space)
        try:
            trained_saved_and_resumed(*pair, "torch", tmp_path / shape)
            usable += 1
        except UnsupportedSpaceError as error:
            refusals.append(str(error))
    assert all(f"`{role}_space`" in text and "got " in text for text in refusals)
    # A longdouble is another number on another machine.
    assert (usable > 0) == (kind != "longdouble")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_types_that_no_checkpoint_could_hold(tmp_path, backend):
    small = spaces.Dict(
        a=spaces.Box(-128, 127, (1,), np.int8), b=spaces.Box(0, 1, (1,), np.float16)
    )
    cases = [
        (spaces.MultiBinary(2), spaces.MultiBinary(2)),
        (small, spaces.Box(-1, 1, (2, 2), np.float16)),
        (spaces.Box(0, 9, (2,), np.uint16), spaces.Discrete(2, dtype=np.int16)),
    ]
    for number, pair in enumerate(cases):
        state = trained_saved_and_resumed(*pair, backend, tmp_path / str(number))
        histories = [n for n in state if n.startswith("environment.actions.")]
        assert len(histories) == 2
        assert {state[name].dtype for name in histories} == {pair[1].dtype}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2**60),
        spaces.Discrete(3, start=-(2**63)),
        spaces.Discrete(3, start=np.uint64(2**64 - 4), dtype=np.uint64),
        spaces.MultiDiscrete([3, 3], start=[2**60, -(2**60)]),
    ],
    ids=str,
)
def test_a_start_beyond_the_digits_of_a_float_is_added_exactly(space):
    spec = policy_spec(PLAIN, space)
    numbers = np.arange(3, dtype=np.float32)[:, None].repeat(spec.act_dim, axis=1)
    sent = spec.to_environment(numbers)
    assert all(space.contains(action) for action in sent)
    assert len({action.tobytes() for action in sent}) == 3
