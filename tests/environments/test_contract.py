"""The one door: whatever an environment returns is checked, and is the loop's own."""

import fractions
import sys
from collections import UserDict

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.environments.test_rollout import LinearAgent
from trpo.environments.contract import flag, number
from trpo.environments.environment_worker import (
    EnvironmentContractError,
    EnvironmentWorkerError,
)
from trpo.environments.make import make_vector_environment
from trpo.environments.step_costs import CostError
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.transitions import NonFiniteTransitionError


BOX = gymnasium.spaces.Box(-9.0, 9.0, (2,), np.float32)
SHARED = np.zeros(2, np.float32)


class Odd(gymnasium.Env):
    """Counts to seven; `spoil` makes something else of what a phase returns."""

    observation_space = BOX
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, spoil=None, phase="step", at=3, buffer=None):
        self.spoil, self.phase, self.at, self.buffer = spoil, phase, at, buffer
        self.resets = 0

    def _obs(self):
        obs = np.array([self.draw, self.count], np.float32)
        if self.buffer is None:
            return obs
        self.buffer[:] = obs
        return self.buffer

    def _returned(self, phase, at, result):
        if self.spoil is not None and (phase, at) == (self.phase, self.at):
            return self.spoil(result)
        return result

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draw, self.count = self.np_random.random(), 0
        self.resets += 1
        return self._returned("reset", self.resets, (self._obs(), {}))

    def step(self, action):
        self.count += 1
        result = (self._obs(), float(self.count), self.count == 7, False, {})
        return self._returned("step", self.count, result)


def odd(index, **spoilt):
    """A maker of environments; the one of this index is spoilt."""
    made = iter(range(100))
    return lambda: Odd(**(spoilt if next(made) == index else {}))


def collected(env, steps=20, **options):
    try:
        collector = RolloutCollector(env, **options)
        return collector, collector.collect(LinearAgent(), steps)
    finally:
        env.close()


def with_field(position, value):
    def spoil(result):
        return (*result[:position], value, *result[position + 1 :])

    return spoil


OBS, REWARD, TERMINATED, TRUNCATED, INFO = range(5)
OBJECTS = np.array([1.0, None], dtype=object)
RAGGED = [[1.0], [1.0, 2.0]]
HUGE = 10**400


class Rude:
    """Whose text can't be had, and which is no number."""

    def __repr__(self):
        raise RuntimeError("rude")

    def __float__(self):
        raise RuntimeError("rude")


STEPS = [
    *((REWARD, value, "`reward`: expected a number") for value in (
        None, (1.0, 2.0), np.ones(2), {"a": 1.0}, "1", b"1", 1j, HUGE, [], OBJECTS,
        RAGGED, np.array("1"), Odd, set(), np.datetime64("2020-01-01"),
    )),
    *((field, value, f"`{name}`: expected True or False")
      for field, name in ((TERMINATED, "terminated"), (TRUNCATED, "truncated"))
      for value in (None, "False", 2, 0.5, np.ones(2, bool), {}, [], np.nan)),
    *((OBS, value, "`obs`: expected an observation of float32") for value in (
        None, "two", {"a": 1.0}, np.zeros(3), np.zeros((1, 2)), 1.0, OBJECTS, RAGGED,
        np.array(["a", "b"]), np.array([1j, 0]), (np.zeros(2), np.zeros(2)),
    )),
    *((INFO, value, "`info`: expected a dict") for value in (None, [], "info", 3)),
]  # fmt: skip
WHOLE = [
    ("step", lambda result: (*result, {}), "got 6 values"),
    ("step", lambda result: (*result[:3], {}), "got 4 values"),
    ("step", lambda result: result[0], "got array"),
    ("step", lambda _: None, "got None"),
    ("step", lambda _: (), "got 0 values"),
    ("reset", lambda result: result[0], "got array"),
    ("reset", lambda result: (*result, 1), "got 3 values"),
    ("reset", lambda _: None, "got None"),
    ("reset", with_field(1, None), "`info`: expected a dict, got None"),
    ("reset", with_field(0, None), "`obs`: expected an observation"),
    ("reset", with_field(0, np.zeros(5)), r"got float64 \[5\]"),
]


def refused(phase, spoil, message, at):
    env = make_vector_environment(odd(1, spoil=spoil, phase=phase, at=at), 3, seed=0)
    with pytest.raises(EnvironmentContractError, match=message) as caught:
        collected(env)
    error, said = caught.value, str(caught.value)
    assert isinstance(error, ValueError)
    assert (error.index, error.phase) == (1, phase)
    assert said.startswith(f"environment 1 failed in its {phase}: `")
    assert "replaced" not in said
    assert ("(step 3 of its episode)" in said) == (phase == "step")
    # What came is said in a line, with no traceback of ours.
    assert error.original == ""
    assert len(said) < 600


@pytest.mark.parametrize(
    ("field", "value", "message"), STEPS, ids=lambda v: type(v).__name__
)
def test_a_value_that_gymnasium_does_not_allow_is_named(field, value, message):
    refused("step", with_field(field, value), message, 3)


@pytest.mark.parametrize(("phase", "spoil", "message"), WHOLE)
def test_what_is_returned_has_as_many_parts_as_gymnasium_says(phase, spoil, message):
    refused(phase, spoil, message, 3 if phase == "step" else 1)
    # A reset in the middle of a run, too.
    if phase == "reset":
        refused(phase, spoil, message, 2)


def test_what_gymnasiums_own_wrappers_unpack_is_named_too():
    gymnasium.register(
        "TrpoTest/Six-v0", lambda: Odd(lambda r: (*r, 6)), max_episode_steps=9
    )
    env = make_vector_environment("TrpoTest/Six-v0", 2, seed=0)
    with pytest.raises(EnvironmentContractError, match="got 6 values") as caught:
        collected(env)
    assert "(TrpoTest/Six-v0, step 3 of its episode)" in str(caught.value)


class PanicError(BaseException):
    """As an extension of Rust raises it."""


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), PanicError("p")])
@pytest.mark.parametrize("phase", ["step", "reset"])
def test_what_would_end_the_program_is_a_failure_of_its_environment(phase, error):
    def ends(_):
        raise error

    maker = odd(1, spoil=ends, phase=phase, at=1)
    env = make_vector_environment(maker, 3, seed=0)
    named = rf"environment 1 failed in its {phase}: .*{type(error).__name__}"
    with pytest.raises(EnvironmentWorkerError, match=named):
        collected(env)


def test_ctrl_c_in_a_step_is_no_failure_of_the_environment():
    def ends(_):
        raise KeyboardInterrupt

    env = make_vector_environment(odd(1, spoil=ends), 3, seed=0)
    with pytest.raises(KeyboardInterrupt):
        collected(env)


def test_an_environment_that_exits_as_it_is_made_or_closed_is_named():
    def ends(*_):
        sys.exit(3)

    with pytest.raises(EnvironmentWorkerError, match="0 failed in its constructor: Sy"):
        make_vector_environment(ends, 2, seed=0)
    env = make_vector_environment(odd(9), 2, seed=0)
    env.envs[0].unwrapped.close = ends
    with pytest.raises(EnvironmentWorkerError, match="0 failed in its close: SystemEx"):
        env.close()


@pytest.mark.parametrize("field", ["observation_space", "action_space"])
@pytest.mark.parametrize("space", [None, "Discrete(3)", gymnasium.spaces.Box])
def test_a_space_that_is_none_is_named(field, space):
    class Spaceless(Odd):
        pass

    setattr(Spaceless, field, space)
    said = f"`env`: expected {field} of .*Spaceless to be a gymnasium.Space, got "
    with pytest.raises(ValueError, match=said):
        make_vector_environment(Spaceless, 2, seed=0)


def test_values_that_are_rude_are_named_as_well():
    refused("step", with_field(REWARD, Rude()), "`reward`: expected a number", 3)


ONES = (
    np.ones(1), np.float32(1), 1, True, np.bool_(True), fractions.Fraction(1), [1.0],
    np.array([[1]]),
)  # fmt: skip


@pytest.mark.parametrize("value", ONES, ids=lambda v: type(v).__name__)
def test_one_number_is_as_good_in_any_clothes(value):
    assert number("reward", value) == 1.0
    assert type(number("reward", value)) is float
    if value != [1.0]:
        assert flag("terminated", value) is True


def test_numbers_of_other_kinds_are_learned_from_as_floats_are():
    def dressed(result):
        obs, reward, terminated, truncated, _ = result
        reward = np.array([reward])
        return (
            list(map(float, obs)),
            reward,
            int(terminated),
            np.bool_(truncated),
            UserDict(),
        )

    plain = collected(make_vector_environment(Odd, 3, seed=4))[1]
    env = make_vector_environment(odd(1, spoil=dressed), 3, seed=4)
    other = collected(env)[1]
    for name in ("obs", "rewards", "terminated", "truncated", "next_values"):
        mine, theirs = getattr(plain, name), getattr(other, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("value", [300, -1])
def test_a_whole_number_that_its_space_does_not_hold_does_not_wrap_round(value):
    class Bytes(Odd):
        observation_space = gymnasium.spaces.Box(0, 255, (2,), np.uint8)

        def _obs(self):
            return np.array([0, value if self.count == 3 else 0])

    env = make_vector_environment(Bytes, 2, seed=0)
    with pytest.raises(EnvironmentContractError, match="within its range"):
        collected(env)


@pytest.mark.parametrize("buffer", ["each its own", "one for all"])
def test_a_buffer_that_is_written_to_later_changes_nothing(buffer):
    plain = collected(make_vector_environment(Odd, 3, seed=4))[1]

    def maker():
        return Odd(
            buffer=SHARED if buffer == "one for all" else np.zeros(2, np.float32)
        )

    other = collected(make_vector_environment(maker, 3, seed=4))[1]
    np.testing.assert_array_equal(plain.obs, other.obs)
    np.testing.assert_array_equal(plain.next_values, other.next_values)


NAMES = (
    "final_obs",
    "final_info",
    "_final_obs",
    "restarted",
    "unrestored",
    "reset_mask",
)


@pytest.mark.parametrize("phase", ["reset", "step"])
def test_infos_of_any_name_are_the_environments_own_affair(phase):
    def named(result):
        return (*result[:-1], dict.fromkeys(NAMES, True))

    plain = collected(make_vector_environment(Odd, 3, seed=4))[1]
    for at in (1, 2, 7):
        env = make_vector_environment(
            odd(1, spoil=named, phase=phase, at=at), 3, seed=4
        )
        other = collected(env)[1]
        assert other.valid.all()
        for name in ("obs", "rewards", "next_values", "truncated"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


class Clips(Odd):
    """Changes the action that it is sent, as some clip or scale theirs."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        reward = self._used(action)
        return np.float32([obs[0] + reward, obs[1]]), reward, *rest

    def _used(self, action):
        reward = float(action[0])
        action *= 0.5
        return reward


class ClipsParts(Clips):
    action_space = gymnasium.spaces.Dict(a=Odd.action_space)

    def _used(self, action):
        return super()._used(action["a"])


@pytest.mark.parametrize("kind", [Clips, ClipsParts])
def test_an_environment_that_writes_to_its_action_is_restored(kind):
    def made():
        return RolloutCollector(make_vector_environment(kind, 3, seed=4))

    collector = made()
    collector.collect(LinearAgent(), 11)
    state = collector.get_state()
    again = made()
    assert again.set_state(state) == ()
    np.testing.assert_array_equal(again.obs, collector.obs)
    # Once more: nor has the replay changed what is recorded.
    third = made()
    assert third.set_state(again.get_state()) == ()


def users(spoilt=None, mode=AutoresetMode.SAME_STEP, kind=SyncVectorEnv, **options):
    """A vector of the user's own."""
    maker = odd(1, **(spoilt or {}))
    return kind([maker] * 3, autoreset_mode=mode, **options)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_an_error_in_a_vector_of_the_users_has_its_environments_number(mode):
    for field, value in ((REWARD, None), (REWARD, {}), (OBS, None), (OBS, np.zeros(5))):
        env = users({"spoil": with_field(field, value)}, mode)
        if field == REWARD and value is None:  # Which NumPy takes for a NaN.
            with pytest.raises(NonFiniteTransitionError, match="environment 1 at step"):
                collected(env)
            continue
        with pytest.raises(EnvironmentWorkerError) as caught:
            collected(env)
        named = (caught.value.index, caught.value.step) == (1, 3)
        # Gymnasium stacks observations after all steps: which one is lost.
        assert named or field == OBS


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_that_reuses_its_arrays_is_copied(mode):
    _, plain = collected(users(mode=mode))
    collector = RolloutCollector(users(mode=mode, copy=False))
    first = collector.obs.copy()
    other = collector.collect(LinearAgent(), 20)
    np.testing.assert_array_equal(other.obs[0], first)
    # Gymnasium seeds none of them: what follows from an observation is compared.
    np.testing.assert_array_equal(plain.obs[..., 1], other.obs[..., 1])
    np.testing.assert_array_equal(other.obs[1:6, :, 0], other.obs[:5, :, 0])


class Altered(SyncVectorEnv):
    """A vector that is spoilt as a whole."""

    def __init__(self, *arguments, alter, **options):
        super().__init__(*arguments, **options)
        self._alter = alter

    def step(self, actions):
        return self._alter(*super().step(actions))


def final_given_another_name(*step):
    infos = {"last" if name == "final_obs" else name: v for name, v in step[-1].items()}
    return *step[:-1], infos


ALTERED = [
    (lambda o, r, *s: (o, r[:2], *s), "expected 3 values"),
    (lambda o, r, *s: (o, None, *s), "expected 3 values, got None"),
    (lambda o, r, *s: (o, [0.0, "1", 0.0], *s), "environment 1 .*`reward`"),
    (lambda o, r, *s: (o, r[:, None] * np.ones(2), *s), "environment 0 .*`reward`"),
    (lambda o, r, t, *s: (o, r, [False, False, None], *s), "environment 2 .*`term"),
    (lambda o, *s: (o[:2], *s), r"expected float32 \[3, 2\]"),
    (lambda o, *s: ([*o[:2], None], *s), "environment 2 .*`obs`"),
    (lambda *s: (*s[:-1], None), "the vector .*`info`"),
    (lambda *s: s[:-1], "the vector .*got 4 values"),
    (final_given_another_name, "environment 0 .*'final_obs', got none"),
]


@pytest.mark.parametrize(("alter", "message"), ALTERED)
def test_a_vector_of_the_users_is_checked_as_a_whole(alter, message):
    env = users(kind=Altered, alter=alter)
    with pytest.raises(EnvironmentContractError, match=message):
        collected(env)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_vector_of_the_users_may_have_its_values_in_other_arrays(shape):
    def alter(obs, rewards, terminated, truncated, infos):
        return (
            obs.astype(np.float64), rewards.astype(np.float32).reshape(shape),
            terminated.astype(int), list(truncated), infos,
        )  # fmt: skip

    collector = RolloutCollector(users(kind=Altered, alter=alter))
    rollout = collector.collect(LinearAgent(), 20)
    assert rollout.obs.dtype == np.float32
    assert rollout.rewards.dtype == np.float64
    np.testing.assert_array_equal(rollout.rewards, rollout.obs[..., 1] + 1)


def test_a_name_of_gymnasiums_own_in_a_users_vector_is_refused():
    """Its value would stand where the last observation of an episode belongs."""
    spoilt = {"spoil": with_field(1, {"final_obs": 1}), "phase": "reset", "at": 1}
    with pytest.raises(EnvironmentContractError, match="another name"):
        RolloutCollector(users(spoilt))
    RolloutCollector(users(spoilt, AutoresetMode.NEXT_STEP))


COSTS = ({"a": 1.0}, "1", None, [1.0, 2.0], 1j, HUGE)


class Costly(Odd):
    """Whose third step of each episode has a cost that is none."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def step(self, action):
        *step, _ = super().step(action)
        return (*step, {"cost": self.value if self.count == 3 else 1})


@pytest.mark.parametrize("value", COSTS, ids=lambda v: type(v).__name__)
def test_a_cost_that_is_no_number_is_named(value):
    def vector():
        return make_vector_environment(lambda: Costly(value), 2, seed=0)

    # Whoever does not ask for it never minds it.
    collected(vector())
    collector = RolloutCollector(vector(), costs=True)
    collector.advance(np.zeros((2, 1)))
    collector.advance(np.zeros((2, 1)))
    with pytest.raises(CostError) as caught:
        collector.advance(np.zeros((2, 1)))
    said = str(caught.value)
    assert "`info['cost']`: expected a number" in said
    assert "environment 0 at step 3 of its episode" in said


@pytest.mark.parametrize("value", [{"a": 1.0}, "1", None])
def test_so_it_is_in_a_vector_of_the_users(value):
    # From the first step on, for Gymnasium joins numbers by the type of the first.
    class All(Costly):
        def step(self, action):
            return (*super().step(action)[:-1], {"cost": value})

    env = SyncVectorEnv([lambda: All(value)] * 2)
    collector = RolloutCollector(env, costs=True)
    with pytest.raises(CostError, match="environment 0 at step 1"):
        collector.advance(np.zeros((2, 1)))


def test_a_cost_is_that_of_its_own_environment():
    """Gymnasium's vectors have a 0 where an environment gave none."""

    class Some(Odd):
        def step(self, action):
            *step, _ = super().step(action)
            info = {} if self.frugal and self.count > 2 else {"cost": 2.0}
            return (*step, info)

    made = iter((False, True, False))

    def maker():
        env = Some()
        env.frugal = next(made)
        return env

    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        made = iter((False, True, False))
        collector = RolloutCollector(
            SyncVectorEnv([maker] * 3, autoreset_mode=mode), costs=True
        )
        for _ in range(2):
            assert collector.advance(np.zeros((3, 1))).costs.tolist() == [2.0] * 3
        with pytest.raises(CostError, match="got none from environment 1 at step 3"):
            collector.advance(np.zeros((3, 1)))


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("value", [1, np.array([True]), np.float32(1.0)])
def test_a_flag_in_other_clothes_ends_an_episode_whichever_it_is(name, value):
    """The other flag is Python's own; and what is no flag is refused all the same."""
    field = {"terminated": TERMINATED, "truncated": TRUNCATED}[name]
    for wrong, refusal in ((value, None), (2, "got 2"), (0.5, "got 0.5")):
        spoil = with_field(field, wrong)
        env = make_vector_environment(odd(1, spoil=spoil), 3, seed=0)
        if refusal is None:
            rollout = collected(env)[1]
            assert getattr(rollout, name)[2].tolist() == [False, True, False]
            continue
        with pytest.raises(EnvironmentContractError, match=f"`{name}`.*{refusal}"):
            collected(env)


class Cut(Odd):
    """Is cut off after seven steps; each reset writes over its buffer."""

    def step(self, action):
        obs, reward, ended, _, info = super().step(action)
        return obs, reward, False, ended, info


def test_the_last_observation_of_a_cut_episode_is_its_own():
    for kind, last in ((Cut, "truncated"), (Odd, "terminated")):
        env = make_vector_environment(
            lambda kind=kind: kind(buffer=np.zeros(2, np.float32)), 3, seed=4
        )
        collector = RolloutCollector(env)
        steps = [collector.advance(np.zeros((3, 1))) for _ in range(7)]
        assert getattr(steps[-1], last).all()
        assert steps[-1].final_obs[:, 1].tolist() == [7.0] * 3
        assert steps[-1].obs[:, 1].tolist() == [0.0] * 3
        env.close()


class Reuses(SyncVectorEnv):
    """A vector that writes each step's values over the last one's."""

    def step(self, actions):
        obs, rewards, terminated, truncated, infos = super().step(actions)
        if not hasattr(self, "kept"):
            self.kept = [
                np.zeros_like(a) for a in (obs, rewards, terminated, truncated)
            ]
        for kept, new in zip(
            self.kept, (obs, rewards, terminated, truncated), strict=True
        ):
            kept[...] = new
        return *self.kept, infos


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_all_that_a_vector_reuses_is_copied(mode):
    collector = RolloutCollector(users(mode=mode, kind=Reuses))
    steps = [collector.advance(np.zeros((3, 1))) for _ in range(9)]
    counts = [step.obs[0, 1] for step in steps]
    assert counts[:6] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [step.rewards[0] for step in steps[:7]] == [1, 2, 3, 4, 5, 6, 7]
    assert [bool(step.terminated[0]) for step in steps[:7]] == [False] * 6 + [True]


class Spoilt(Odd):
    """Shows a NaN first, in its first episode or in each."""

    def __init__(self, always=False):
        super().__init__()
        self.always = always

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        if self.resets == 1 or self.always:
            obs[0] = np.nan
        return obs, info


@pytest.mark.parametrize("mode", [*AutoresetMode, None])
def test_a_nan_in_the_first_reset_of_all_is_left_for_another_episode(mode):
    env = make_vector_environment(Spoilt, 2, seed=0)
    if mode is not None:
        env = SyncVectorEnv([Spoilt] * 2, autoreset_mode=mode)
    collector, rollout = collected(env, on_bad_data="drop")
    assert np.isfinite(rollout.obs).all()
    assert (collector.episode_numbers > 0).all()


def odd_worker():
    return Odd(with_field(REWARD, None))


def test_a_worker_says_what_came():
    env = make_vector_environment(odd_worker, 2, seed=0, vectorization="async")
    with pytest.raises(EnvironmentContractError, match=r"`reward`.*got None") as caught:
        collected(env)
    assert caught.value.index in (0, 1)
    assert "(step 3 of its episode)" in str(caught.value)
    assert "Traceback" not in caught.value.original
