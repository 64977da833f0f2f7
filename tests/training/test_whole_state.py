"""Each entry of a run's state is checked, and one that is wrong changes nothing."""

import dataclasses
import functools
import importlib

import gymnasium
import numpy as np
import pytest

import tests.support.cost_environments
import tests.support.counting_environments
import tests.support.memory_environments
from trpo.common.tensors import saveable
from trpo.config.presets import preset_config
from trpo.data.normalization import MOMENTS
from trpo.environments.contract import RESET, UNRESTORED
from trpo.environments.environment_worker import answer
from trpo.environments.make import make_environment
from trpo.environments.seeded import RESTORE
from trpo.training.state import COMPILED
from trpo.training.trainer import Trainer


SMALL = {
    "num_envs": 3, "rollout_steps": 8, "total_steps": 10**6,
    "policy_layer_sizes": (4,), "critic_layer_sizes": (3,), "value_epochs": 1,
    "cg_iters": 2, "normalize_observations": True, "scale_returns": True, "seed": 5,
}  # fmt: skip
KINDS = {
    "plain": ("TrpoTest/Counter-v0", {}),
    "sgd": ("TrpoTest/Counter-v0", {"optimizer_type": "sgd", "scale_returns": False}),
    "gru": ("TrpoTest/Counter-v0", {"recurrent": "gru", "recurrent_size": 4}),
    "lstm": ("TrpoTest/Counter-v0", {"recurrent": "lstm", "recurrent_size": 4}),
    "constrained": ("TrpoTest/Toll-v0", {"cost_limit": 10.0}),
    "discrete": ("TrpoTest/Echo-v0", {}),
    "switches": ("TrpoTest/Switches-v0", {}),
    "joint": ("TrpoTest/Pack-v0", {}),
    "image": ("TrpoTest/Spot-v0", {}),
}
# In JAX the kinds that have entries of their own; each is a compilation.
CASES = [("torch", kind) for kind in KINDS]
CASES += [("jax", kind) for kind in ("plain", "lstm", "constrained")]


@functools.cache
def trained(backend, kind):
    """A trainer in the middle of its run, and its state."""
    env_id, options = KINDS[kind]
    config = preset_config(env_id, backend=backend, **(SMALL | options))
    trainer = Trainer(config)
    for _ in range(2):
        trainer.train_once()
    return trainer, trainer.get_state()


def bytes_of(state):
    return {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in state.items()}


def filled(array, value):
    """A copy whose last number is another."""
    changed = array.copy()
    changed.reshape(-1)[-1] = value
    return changed


def corruptions(name, array):
    """(what is wrong, the array) of all that no run could have."""
    yield "shape", np.stack([array] * 2)
    yield "dtype", array.astype("float64" if array.dtype != "float64" else "float32")
    yield "text", np.full(array.shape, "x")
    yield "object", np.full(array.shape, None)
    if array.ndim and len(array):
        yield "longer", np.concatenate([array, array[:1]])
        yield "shorter", array[:-1]
    if array.dtype.kind == "f" and array.size:
        yield from ((str(v), filled(array, v)) for v in (np.nan, np.inf, -np.inf))
    if array.size:
        yield from can_t_be(name, array)


# What these can't be; other numbers may be any that are finite. With a dot at the end:
# of all names that begin so.
SCALED = ("return_scaler.", "costs.", "observation_normalizer.")
NEVER = {
    **dict.fromkeys(
        ("training.update", "training.episodes", "random.", "value_optimizer.step",
         "cost_value_optimizer.step"), (-1, 2**63 - 1, 2**63 - 2)
    ),
    **{f"{name}count": (-1, 1.5, 2.0**63, 1e300) for name in SCALED},
    **{f"{name}mean": (1e300, -1e300) for name in SCALED},
    **{f"{name}squared_deviations": (-1e-9, 1e300) for name in SCALED},
    **dict.fromkeys(
        ("value_optimizer.second_moment.", "cost_value_optimizer.second_moment."),
        (-1e-3,),
    ),
    **dict.fromkeys(
        ("return_scaler.discounted", "costs.discounted", "costs.recent_episodes",
         "environment.episode_return", "environment.episode_cost",
         "environment.policy_memory", "environment.critic_memory"), (3e38, -3e38)
    ),
    "training.recent_episodes": (-1, 0, 1.5, 1e12),  # The last of them is a length.
    "costs.ended": (-1, 3e38),
    "environment.obs": (1e300,),
    "environment.episode": (-1, 2**63 - 1),
    "environment.episode_length": (-1, 2**63 - 1),
    "environment.actions.": (99,),
}  # fmt: skip


def can_t_be(name, array):
    if name == "environment.obs" and array.dtype.kind != "f":
        return  # All whole numbers of its type are possible.
    for key, values in NEVER.items():
        if name == key or (key.endswith(".") and name.startswith(key)):
            for value in values:
                with np.errstate(over="ignore"):
                    yield str(value), filled(array, value)


def tried(set_state, get_state, state):
    """(entry, what) of each corruption that is accepted, unnamed or half taken over."""
    before, faults = bytes_of(get_state()), []
    for name, array in state.items():
        cases = [
            (what, state | {name: wrong}) for what, wrong in corruptions(name, array)
        ]
        cases += [("absent", {n: a for n, a in state.items() if n != name})]
        for what, wrong in cases:
            try:
                set_state(wrong)
                faults.append((name, what, "accepted"))
            except ValueError as error:
                if name not in str(error):
                    # A history that is not there is said by its own name.
                    faults += [] if "actions." in str(error) else [(name, what, error)]
            if bytes_of(get_state()) != before:
                faults.append((name, what, "changed"))
                set_state(state)
    for extra in ("policy.extra", "environment.x", "training.x", "costs.x", "x", 3):
        with pytest.raises(ValueError, match=str(extra).replace(".", r"\.")):
            set_state(state | {extra: np.zeros(1)})
    return faults


@pytest.mark.parametrize(("backend", "kind"), CASES)
def test_each_wrong_entry_is_refused_by_name_and_changes_nothing(backend, kind):
    trainer, state = trained(backend, kind)
    trainer.set_state(state)
    assert tried(trainer.set_state, trainer.get_state, state) == []
    # And it goes on as if nothing had been tried.
    assert trainer.set_state(state) == ()
    assert bytes_of(trainer.get_state()) == bytes_of(state)


@pytest.fixture(scope="module")
def compiled():
    config = preset_config("phys2d/CartPole-v1", **SMALL, gamma=0.9)
    members = [dataclasses.replace(config, seed=seed) for seed in (4, 6)]
    module = importlib.import_module("trpo_jax.loop.trainer")
    trainer = module.CompiledTrainer(members, longest_chunk=2, episodes=1)
    trainer.advance(2)
    return trainer


def test_so_is_each_of_a_compiled_run_s_and_of_its_last_member(compiled):
    states = [compiled.get_state(index) for index in range(2)]

    def set_last(state):
        compiled.set_state(states[0], state)

    def both():
        found = [compiled.get_state(index) for index in range(2)]
        return {f"{i}.{n}": a for i, one in enumerate(found) for n, a in one.items()}

    assert tried(set_last, both, states[1]) == []
    before = bytes_of(both())
    for name in ("environment.obs", "environment.episode_return", f"{COMPILED}1"):
        with pytest.raises(ValueError, match=COMPILED):
            set_last(states[1] | {name: filled(states[1][name], 0.125)})
    compiled.advance(1)
    later = compiled.get_state(1)
    compiled.set_state(*states)
    with pytest.raises(ValueError, match=r"training\.update.*all members"):
        set_last(later)
    for wrong in ([states[0]], [*states, states[0]], [states[1], states[0]]):
        with pytest.raises(ValueError, match=r"`states`|random\.seed"):
            compiled.set_state(*wrong)
    host = Trainer(compiled.configs[0])
    with pytest.raises(ValueError, match=f"{COMPILED}0"):
        compiled.set_state(host.get_state(), states[1])
    assert bytes_of(both()) == before
    # The host's loop goes on from one, with new episodes.
    assert host.set_state(states[0]) == (0, 1, 2)


# A run that has counted one of these has counted another.
DISAGREEING = {
    "training.update": 3,  # More steps than draws of actions.
    "training.episodes": 49,  # More than the steps.
    "training.recent_episodes": 17,  # Longer than an environment has made steps.
    "environment.episode": -2,
    "environment.episode_length": 17,
    "return_scaler.count": 97,
    "random.action_draws": 15,
    "random.seed": 1,
}


@pytest.mark.parametrize("name", DISAGREEING)
def test_counts_agree_with_one_another(name):
    trainer, state = trained("torch", "plain")
    array, before = state[name], bytes_of(trainer.get_state())
    wrong = np.zeros_like(array) if name.endswith("episode") else array.copy()
    if not name.endswith("episode"):
        wrong.reshape(-1)[-1] = DISAGREEING[name]
    match = r"random\.action" if name == "training.update" else name
    with pytest.raises(ValueError, match=match):
        trainer.set_state(state | {name: wrong})
    assert bytes_of(trainer.get_state()) == before


def test_moments_of_nothing_are_nothing():
    trainer, state = trained("torch", "constrained")
    for part in ("return_scaler", "costs", "observation_normalizer"):
        for name in ("mean", "squared_deviations"):
            none = {f"{part}.{n}": np.zeros_like(state[f"{part}.{n}"]) for n in MOMENTS}
            none[f"{part}.{name}"] += 1.0
            with pytest.raises(ValueError, match=f"{part}.{name}"):
                trainer.set_state(state | none)


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_learned_numbers_of_any_size_leave_a_state_that_can_be_saved(value):
    trainer, state = trained("torch", "plain")
    learned = ("policy.", "value.", "value_optimizer.first")
    said = set()
    for name in [n for n in state if n.startswith(learned)]:
        trainer.set_state(state | {name: np.full_like(state[name], value)})
        before = bytes_of(trainer.get_state())
        try:
            with np.errstate(all="ignore"):
                trainer.train_once()
        except ValueError as error:
            said.add(str(error).partition("got")[0].partition(":")[2])
            assert bytes_of(trainer.get_state()) == before
        for entry, array in trainer.get_state().items():
            saveable(entry, array)
    assert said == {" expected finite numbers in float32, "}
    trainer.set_state(state)


class Moody(tests.support.counting_environments.Counter):
    """Refuses every action from the third on, or ends at once, if it is told to."""

    way = None

    def step(self, action):
        if Moody.way == "refuses" and self.count == 2:
            raise RuntimeError("no")
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated or Moody.way == "ends", info


gymnasium.register("TrpoTest/Moody-v0", Moody, disable_env_checker=True)


@pytest.mark.parametrize(("way", "replayed"), [("refuses", 2), ("ends", 0)])
def test_actions_that_can_t_be_replayed_begin_a_new_episode(monkeypatch, way, replayed):
    options = SMALL | {"num_envs": 6}
    config = preset_config("TrpoTest/Moody-v0", backend="torch", **options)
    trainer = Trainer(config)
    trainer.train_once()
    state = trainer.get_state()
    lengths = state["environment.episode_length"]
    lost = tuple(np.flatnonzero(lengths > replayed))
    assert lost
    monkeypatch.setattr(Moody, "way", way)
    assert trainer.set_state(state) == lost
    after = trainer.get_state()
    begun = after["environment.episode"] - state["environment.episode"]
    assert begun.tolist() == (lengths > replayed).tolist()
    # A worker says so too.
    env = make_environment("TrpoTest/Moody-v0", seed=0)
    options = {RESTORE: {0: (0, [np.zeros(1)] * (replayed + 1))}}
    assert answer(env, RESET, {"options": options})[1] == {UNRESTORED: True}
    assert answer(env, RESET, {})[1] == {}


def test_what_fails_halfway_leaves_the_state_and_goes_on(monkeypatch):
    trainer, state = trained("torch", "plain")
    assert trainer.set_state(state) == ()
    straight = trainer.train_once().metrics["policy/kl"]
    later = trainer.get_state()
    trainer.set_state(state)

    def fails(*_, **__):
        raise KeyboardInterrupt

    # Of another state: what came before the one that fails has been taken over.
    for where in (trainer.collector, trainer.agent, trainer.return_scaler):
        with monkeypatch.context() as patch:
            patch.setattr(where, "set_state", fails)
            with pytest.raises(KeyboardInterrupt):
                trainer.set_state(later)
        assert bytes_of(trainer.get_state()) == bytes_of(state)
    assert trainer.train_once().metrics["policy/kl"] == straight
    assert bytes_of(trainer.get_state()) == bytes_of(later)


class Forgetful(gymnasium.Env):
    """Ends after ten steps; its second one draws from what no seed sets."""

    observation_space = gymnasium.spaces.Box(-9.0, 99.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
    unseeded = np.random.default_rng(12)

    def __init__(self, forgets=True):
        self.forgets = forgets

    def _obs(self):
        return np.array([self.count, self.drawn])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.drawn = 0, float(self.np_random.random())
        return self._obs(), {}

    def step(self, action):
        self.count += 1
        if self.forgets:
            self.drawn = float(self.unseeded.random())
        return self._obs(), 1.0, self.count == 10, False, {}


@pytest.mark.parametrize("forgetful", [(), (1,)])
def test_what_is_not_restored_exactly_is_named_with_its_reason(forgetful):
    made = iter(range(100))
    config = preset_config("Forgetful", backend="torch", **SMALL)

    def make():
        # Of three environments, one; the run's own, and then the resumed one's.
        return Forgetful(next(made) % 3 in forgetful)

    one = Trainer(config, env=make)
    one.train_once()
    note = one.note(one.get_state())
    assert note["episodes"]["restarts_on_resume"] == []
    again = Trainer(config, env=make)
    assert again.set_state(one.get_state()) == forgetful
    said = again.not_restored(note)
    assert again.note(again.get_state())["episodes"]["restarted_on_resume"] == [
        *forgetful
    ]
    if not forgetful:
        assert said == []
        return
    line, *_ = said
    assert line.startswith("environments [1] could not be restored")
    assert "Forgetful is not restored exactly (1: with the same actions it" in line
