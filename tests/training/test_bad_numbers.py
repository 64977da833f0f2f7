"""Numbers that can't be learned from are refused where they enter, or left out."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.support.agents import BACKENDS, fingerprint, make_agent, make_batch
from tests.support.cost_environments import Toll
from trpo.agent.batch_checks import LARGEST
from trpo.config.presets import preset_config
from trpo.data.normalization import RunningMoments
from trpo.environments.make import make_environment
from trpo.rollout.collector import MAX_BAD_RESETS, RolloutCollector
from trpo.rollout.evaluation import evaluate
from trpo.rollout.transitions import Limits, NonFiniteTransitionError
from trpo.runs.checkpoint import save_checkpoint
from trpo.training.trainer import Trainer


BAD = [np.nan, np.inf, -np.inf, 1e300, -1e140]
PLACES = ["first reset", "reset", "obs", "last obs", "reward", "cost"]


class Spoilt(Toll):
    """Counter with costs; some numbers of environment 1 are not what they should be.

    Args:
        place: Where.
        value: Which number is there.
        episodes: How many of its episodes have it.
    """

    made = 0

    def __init__(self, place, value, episodes=2):
        super().__init__()
        self.place, self.value, self.left = place, value, episodes
        self.mine, self.started = Spoilt.made % 2 == 1, 0
        Spoilt.made += 1

    def reset(self, **options):
        obs, info = super().reset(**options)
        self.started += 1
        self.spoils = self.mine and self.left > 0
        at_reset = self.place == "first reset" or (
            self.place == "reset" and self.started > 1
        )
        if self.spoils and at_reset:
            self.left -= 1
            obs[1] = self.value
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        last = terminated or truncated
        wanted = {"obs": self.count == 2, "last obs": last}.get(
            self.place, self.count == 2
        )
        if self.spoils and wanted and "reset" not in self.place:
            self.left -= 1
            if self.place == "reward":
                reward = self.value
            elif self.place == "cost":
                info = {"cost": self.value}
            else:
                obs[1] = self.value
        return obs, reward, terminated, truncated, info


gymnasium.register("TrpoTest/Spoilt-v0", Spoilt, disable_env_checker=True)


def trainer_of(place, value, backend="torch", episodes=2, **options):
    gymnasium.registry["TrpoTest/Spoilt-v0"].kwargs.update(
        place=place, value=value, episodes=episodes
    )
    Spoilt.made = 0
    config = preset_config(
        "TrpoTest/Spoilt-v0", backend=backend, num_envs=2, rollout_steps=16,
        total_steps=96, policy_layer_sizes=(4,), critic_layer_sizes=(4,), cg_iters=2,
        value_epochs=1, eval_episodes=2,
        **{"normalize_observations": True, "scale_returns": True, "cost_limit": 50.0}
        | options,
    )  # fmt: skip
    return Trainer(config)


def assert_finite(state):
    for name, array in state.items():
        assert np.isfinite(array).all(), name


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("place", PLACES)
def test_they_stop_a_run_that_names_where_they_came_from(tmp_path, place, value):
    name = {"reward": "`rewards`", "cost": "`costs`"}.get(place, "`obs`")
    moment = "at the reset" if "reset" in place else r"at step \d+ of its episode"
    entry = " in entry 1" if name == "`obs`" else ""
    message = f"{name}: expected finite numbers .*{entry} from environment 1 {moment}"
    if place == "first reset":
        with pytest.raises(NonFiniteTransitionError, match=message):
            trainer_of(place, value)
        return
    trainer = trainer_of(place, value)
    before = trainer.get_state()
    with pytest.raises(NonFiniteTransitionError, match=message):
        trainer.run()
    after = trainer.get_state()
    assert_finite(after)
    save_checkpoint(tmp_path, 0, after, {}, keep=1)
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


@pytest.mark.parametrize("value", [np.nan, 1e300])
@pytest.mark.parametrize("place", PLACES)
def test_episodes_with_them_can_be_left_out(tmp_path, place, value):
    trainer = trainer_of(place, value, on_bad_data="drop")
    clean = trainer_of(place, 0.0, on_bad_data="drop")
    trainer.run()
    clean.run()
    state = trainer.get_state()
    assert_finite(state)
    save_checkpoint(tmp_path, 96, state, {}, keep=1)
    assert trainer.update_count == 3
    # Those that were left out are counted: their successors have numbers of their own.
    begun = state["environment.episode"] - clean.get_state()["environment.episode"]
    assert begun[0] == 0
    resumed = trainer_of(place, value, on_bad_data="drop", episodes=0)
    assert resumed.set_state(state) == ()


def test_an_environment_that_never_begins_well_is_named():
    with pytest.raises(NonFiniteTransitionError, match="environment 1 at the reset"):
        trainer_of("first reset", np.inf, episodes=99, on_bad_data="drop")
    trainer = trainer_of(
        "first reset", np.inf, episodes=MAX_BAD_RESETS, on_bad_data="drop"
    )
    assert trainer.get_state()["environment.episode"].tolist() == [0, MAX_BAD_RESETS]
    # And what it begins with is what that number's seed gives.
    fresh = make_environment("TrpoTest/Counter-v0", seed=0, env_index=1)
    fresh._episode = MAX_BAD_RESETS
    np.testing.assert_array_equal(trainer.collector.obs[1], fresh.reset()[0])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("place", ["reset", "last obs", "obs"])
def test_in_every_autoreset_mode(mode, place):
    Spoilt.made = 0
    makers = [functools.partial(Spoilt, place, 1e300)] * 2
    collector = RolloutCollector(SyncVectorEnv(makers, autoreset_mode=mode))
    moment = "at the reset" if place == "reset" else "at step"
    play = functools.partial(collector.advance, np.zeros((2, 1)))
    with pytest.raises(NonFiniteTransitionError, match=f"environment 1 {moment}"):
        [play() for _ in range(20)]


def test_evaluation_names_them_too():
    trainer = trainer_of("obs", np.inf, episodes=0)
    gymnasium.registry["TrpoTest/Spoilt-v0"].kwargs["episodes"] = 99
    Spoilt.made = 0
    with pytest.raises(NonFiniteTransitionError, match="environment 1 at step 1"):
        evaluate(trainer.agent, "TrpoTest/Spoilt-v0", episodes=2, seed=0)


@pytest.mark.parametrize("place", ["first reset", "obs", "last obs", "reward"])
def test_evaluation_leaves_them_out_too_and_counts_them(place):
    trainer = trainer_of("obs", 0.0)

    def scored(value, bad_episodes, count):
        Spoilt.made = 0
        gymnasium.registry["TrpoTest/Spoilt-v0"].kwargs.update(
            place=place, value=value, episodes=bad_episodes
        )
        return evaluate(
            trainer.agent, "TrpoTest/Spoilt-v0", episodes=count, seed=0,
            on_bad_data="drop",
        )  # fmt: skip

    whole = scored(0.0, 0, 4)
    with pytest.warns(UserWarning, match="2 of 4 episodes .* left out"):
        found = scored(np.nan, 1, 4)
    assert found.dropped == 2
    # Every second environment has them.
    assert found.returns.tolist() == whole.returns[::2].tolist()
    assert found.lengths.tolist() == whole.lengths[::2].tolist()
    assert len(found.under_way) == 2


def test_an_evaluation_that_nothing_is_left_of_says_so():
    trainer = trainer_of("obs", 0.0)
    gymnasium.registry["TrpoTest/Spoilt-v0"].kwargs.update(
        place="obs", value=np.nan, episodes=1
    )
    Spoilt.made = 1
    with pytest.raises(NonFiniteTransitionError, match=r"`on_bad_data`: .* got none"):
        evaluate(
            trainer.agent, "TrpoTest/Spoilt-v0", episodes=1, seed=0, on_bad_data="drop"
        )


@pytest.mark.parametrize(
    ("place", "options", "largest"),
    [
        ("obs", {}, LARGEST["float64"]),
        ("obs", {"normalize_observations": False}, LARGEST["float32"]),
        ("obs", {"normalize_observations": False, "dtype": "float64"}, 1e130),
        ("reward", {}, LARGEST["float32"]),
        ("reward", {"dtype": "float64"}, 1e130),
        ("reward", {"scale_returns": False}, LARGEST["float32"]),
        ("cost", {}, LARGEST["float32"]),
        ("cost", {"dtype": "float64"}, 1e130),
    ],
)
def test_numbers_up_to_the_largest_leave_a_state_that_can_be_saved(
    tmp_path, place, options, largest
):
    for value in (largest, -largest):
        trainer = trainer_of(place, value, episodes=99, **options)
        trainer.run()
        assert_finite(trainer.get_state())
        save_checkpoint(tmp_path, 96, trainer.get_state(), {}, keep=1)
        for number in trainer.agent.act(trainer.collector.obs):
            assert np.isfinite(number).all()
    trainer = trainer_of(place, np.nextafter(largest, np.inf), episodes=99, **options)
    with pytest.raises(NonFiniteTransitionError, match="at most"):
        trainer.run()


def test_running_statistics_hold_the_largest_for_a_whole_run():
    largest, steps = LARGEST["float64"], 1e12
    moments = RunningMoments(1)
    # As of that many discounted returns, the worst there are.
    moments.count, moments.mean = steps, np.array([-steps * largest])
    moments.squared_deviations = np.array([steps * (2 * steps * largest) ** 2])
    moments.update(np.array([[steps * largest]]))
    assert np.isfinite(moments.std).all()
    assert np.isfinite(moments.squared_deviations).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("value", BAD)
def test_an_agent_refuses_them_before_anything_changes(backend, normalized, value):
    agent = make_agent(backend, normalize_observations=normalized)
    batch = make_batch(agent)
    agent.observe(batch["obs"])
    before = fingerprint(agent)
    obs = batch["obs"].astype(np.float64)
    obs[3, 1] = value
    for call in (
        lambda: agent.update(batch | {"obs": obs}),
        lambda: agent.act(obs),
        lambda: agent.value(obs),
        *([lambda: agent.observe(obs)] if normalized else []),
    ):
        with pytest.raises(ValueError, match=r"obs.*expected finite numbers of"):
            call()
    assert fingerprint(agent) == before


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint64", "float16"])
def test_limits_are_those_of_the_agent_and_not_of_the_numbers_type(kind):
    kind = np.dtype(kind)
    largest = (np.finfo if kind.kind == "f" else np.iinfo)(kind).max
    env = SyncVectorEnv([lambda: gymnasium.make("TrpoTest/Counter-v0")])
    collector = RolloutCollector(env, limits=Limits.of("float32", normalized=False))
    collector._start(np.array([[largest, 0]], kind), {})
    if kind.kind == "f":
        with pytest.raises(NonFiniteTransitionError):
            collector._start(np.array([[np.inf, 0]], kind), {})
