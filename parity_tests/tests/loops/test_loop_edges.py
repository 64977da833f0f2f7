"""What happens seldom: episodes that are lost or bad at once, cut, or of one rank."""

import functools
import json

import gymnasium
import numpy as np
import pytest

from parity_tests.problems import scripted
from parity_tests.rings.rank_threads import ThreadRanks, run_ranks
from parity_tests.tests.loops.test_metamorphic_loops import plain
from parity_tests.tests.loops.test_pairwise import ENVS, assert_near, trainer_of
from trpo.common.random_streams import Purpose, RandomStream, episode_seed
from trpo.config.presets import preset_config
from trpo.data.hidden_state import Memory
from trpo.environments.make import make_vector_environment
from trpo.rollout import open_episodes
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.evaluation import evaluate
from trpo.runs.directory import Moment, RunDirectory
from trpo.runs.evaluate import evaluate_run, evaluation_json
from trpo.training import state as training_state
from trpo.training.trainer import Trainer
from trpo_torch.devices import reduction


def trained(row, updates=1):
    trainer = trainer_of(row, {})
    trainer.run(num_updates=updates)
    return trainer, trainer.get_state()


def histories(state):
    return sorted(n for n in state if n.startswith("environment.actions."))


@pytest.mark.parametrize("kind", ["reals", "costs"])
def test_an_episode_that_is_lost_is_the_only_one_that_begins_anew(kind):
    row = plain(kind, "none")
    _, state = trained(row)
    lengths = state["environment.episode_length"]
    chosen = int(lengths.argmax())
    spoilt = state | {"environment.obs": state["environment.obs"].copy()}
    spoilt["environment.obs"][chosen] += 1e-9
    log = {}
    resumed = trainer_of(row, log)
    assert resumed.set_state(spoilt) == (chosen,)
    found = resumed.get_state()
    others = np.arange(ENVS) != chosen
    names = ["episode", "episode_return", "episode_length"]
    for name in [*names, "episode_cost"] if kind == "costs" else names:
        before, after = (one[f"environment.{name}"] for one in (state, found))
        np.testing.assert_array_equal(after[others], before[others], err_msg=name)
        anew = before[chosen] + 1 if name == "episode" else 0
        assert after[chosen] == anew, name
    assert f"environment.actions.{chosen}" not in found
    # Its next episode is the one of the next number.
    stream = RandomStream(5, Purpose.TRAINING_RESET)
    number = int(found["environment.episode"][chosen])
    seed = episode_seed(stream, env_index=chosen, episode=number)
    np.testing.assert_array_equal(found["environment.obs"][chosen], log[seed].obs[0])
    # From there on it is a run like any other, which can be resumed.
    resumed.run(num_updates=2)
    middle = resumed.get_state()
    again = trainer_of(row, {})
    assert again.set_state(middle) == ()
    for trainer in (resumed, again):
        trainer.run(num_updates=3)
    assert_near(again.get_state(), resumed.get_state(), 0.0)


class Blank(gymnasium.Env):
    """Shows nothing, so that a new episode looks like one that is under way."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
    lengths = (9, 3, 30)
    made = 0

    def __init__(self):
        self.length = Blank.lengths[Blank.made % 3]
        Blank.made += 1

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(1), {}

    def step(self, action):
        self.count += 1
        return np.zeros(1), 1.0, self.count == self.length, False, {}


def test_an_episode_too_long_to_be_recorded_is_lost_once(monkeypatch):
    for module in (open_episodes, training_state):
        monkeypatch.setattr(module, "MAX_REPLAY_STEPS", 4)
    config = preset_config(
        "Blank", "default", backend="torch", num_envs=3, rollout_steps=7,
        total_steps=210, policy_layer_sizes=(2,), critic_layer_sizes=(2,),
        value_epochs=1, cg_iters=1, dtype="float64",
    )  # fmt: skip

    def made():
        Blank.made = 0
        return Trainer(config, env=Blank)

    trainer = made()
    trainer.train_once()
    state = trainer.get_state()
    # Of 9, 3 and 30 steps: 7 of the first's, 1 of the second's third, 7 of the third's.
    assert state["environment.episode_length"].tolist() == [7, 1, 7]
    assert state["environment.replayable"].tolist() == [False, True, False]
    assert histories(state) == ["environment.actions.1"]
    again = made()
    assert again.set_state(state) == (0, 2)
    assert list(again.collector.lost) == [0, 2]
    found = again.get_state()
    assert found["environment.episode_length"].tolist() == [0, 1, 0]
    assert found["environment.episode_return"].tolist() == [0.0, 1.0, 0.0]
    assert found["environment.replayable"].all()
    # What follows is recorded again: it is not lost another time.
    third = made()
    assert third.set_state(found) == ()
    for one in (trainer, again):
        one.train_once()
    # The first has begun another by now, of which 5 steps are too many again.
    state = trainer.get_state()
    assert state["environment.episode_length"].tolist() == [5, 2, 14]
    assert state["environment.replayable"].tolist() == [False, True, False]
    trainer.train_once()
    state = trainer.get_state()
    assert state["environment.episode_length"].tolist() == [3, 0, 21]
    assert state["environment.replayable"].tolist() == [True, True, False]
    assert histories(state) == ["environment.actions.0"]
    assert third.set_state(state) == (2,)


class Begins(Blank):
    """Every second episode begins with a NaN."""

    def __init__(self):
        super().__init__()
        self.episodes, self.seeds = 0, []

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        self.episodes += 1
        self.seeds.append(seed)
        return np.full(1, np.nan) if self.episodes % 2 == 0 else obs, info


def test_episodes_that_begin_badly_have_numbers_of_their_own():
    Blank.made, made = 0, []

    def maker():
        made.append(Begins())
        return made[-1]

    env = make_vector_environment(maker, 3, seed=5)
    collector = RolloutCollector(env, on_bad_data="drop")
    for _ in range(20):
        collector.advance(np.zeros((3, 1)))
    numbers = collector.episode_numbers
    for index, one in enumerate(made):
        # As many as were begun: the next seed is that of the next number.
        assert numbers[index] == one.episodes - 1
        stream = RandomStream(5, Purpose.TRAINING_RESET)
        wanted = [
            episode_seed(stream, env_index=index, episode=number)
            for number in range(one.episodes)
        ]
        assert one.seeds == wanted
    assert numbers[1] > 9


def all_reduce(tensor):
    ThreadRanks.local.ranks.all_reduce(tensor)


def test_ranks_name_a_lost_environment_by_its_number_in_the_run():
    row = plain("reals", "none")
    _, state = trained(row)
    spoilt = state | {"environment.obs": state["environment.obs"] + 0.0}
    spoilt["environment.obs"][2] += 1e-9
    alone = trainer_of(row, {})
    assert alone.set_state(spoilt) == (2,)

    def of_rank(ranks):
        trainer = trainer_of(row, {}, ranks=ranks)
        return trainer.set_state(spoilt), trainer.get_state()

    for lost, found in run_ranks(2, of_rank):
        assert lost == (2,)
        assert_near(found, alone.get_state(), 0.0)


def test_before_an_episode_has_ended_costs_under_way_are_of_all_ranks(monkeypatch):
    monkeypatch.setattr(reduction.distributed, "all_reduce", all_reduce)
    row = plain("costs", "none")

    def excess(ranks=None):
        options = {}
        if ranks is not None:
            ranks.local.ranks = ranks
            options["ranks"] = ranks
        trainer = trainer_of(row, {}, **options)
        # One step: the shortest episode has two.
        rollout = trainer.collector.collect(trainer.agent, 1)
        assert rollout.episodes == ()
        batch = trainer.prepare_batch(rollout).batch
        return float(batch.cost_excess)

    alone = excess()
    assert run_ranks(2, excess) == pytest.approx([alone] * 2, rel=1e-12)


@pytest.mark.parametrize("seed", [9, 10])
def test_an_evaluation_is_of_its_episodes_alone(seed):
    """Of unequal lengths, some of them bad, more than there are environments."""
    seen, row = {}, plain("costs", "bad")
    trainer = trainer_of(row, {})
    env = functools.partial(
        scripted.Scripted, seen, False, (scripted.BAD,), ("obs", "reward", "cost")
    )
    with pytest.warns(UserWarning, match="of 11 episodes"):
        result = evaluate(
            trainer.agent, env, episodes=11, seed=seed, num_envs=3, on_bad_data="drop"
        )
    stream = RandomStream(seed, Purpose.EVALUATION_RESET)
    episodes = [seen[episode_seed(stream, env_index=i, episode=0)] for i in range(11)]
    whole = [e for e in episodes if e.fate != scripted.BAD]
    assert 3 < len(whole) < 11
    assert result.dropped == 11 - len(whole)
    assert len({e.length for e in whole}) > 2
    np.testing.assert_array_equal(result.lengths, [e.length for e in whole])
    np.testing.assert_allclose(result.returns, [sum(e.rewards) for e in whole])
    np.testing.assert_allclose(result.costs, [sum(e.costs) for e in whole])
    said = json.loads(evaluation_json(result))
    assert len(said["costs"]) == len(said["returns"]) == len(whole)
    # A limit cuts the long ones alone.
    with pytest.warns(UserWarning, match=r"had not ended|of 11 episodes"):
        cut = evaluate(
            trainer.agent, env, episodes=11, seed=seed, num_envs=3, on_bad_data="drop",
            max_steps=4,
        )  # fmt: skip
    # Also those that would have become bad.
    kept = [e for e in episodes if e.fate != scripted.BAD or e.length > 4]
    lengths = [min(e.length, 4) for e in kept]
    np.testing.assert_array_equal(cut.lengths, lengths)


def test_evaluate_takes_a_seed_and_a_limit_of_0_for_what_they_are(tmp_path):
    config = preset_config(
        "CartPole-v1", "default", backend="torch", num_envs=2, rollout_steps=4,
        seed=7, eval_max_steps=6, policy_layer_sizes=(2,), critic_layer_sizes=(2,),
    )  # fmt: skip
    trainer = Trainer(config)
    try:
        state, note = trainer.get_state(), trainer.note(trainer.get_state())
        run = RunDirectory(tmp_path / "run")
        run.save(Moment(config, trainer.spec, trainer.step_count, state, note))
    finally:
        trainer.close()
    options = {
        "episodes": 4, "backend": None, "device": "cpu", "deterministic": True,
        "video": None,
    }  # fmt: skip

    def played(seed, max_steps):
        return evaluate_run(run.path, seed=seed, max_steps=max_steps, **options)[0]

    whole = {seed: played(seed, 0).lengths.tolist() for seed in (0, 7, None)}
    assert whole[None] == whole[7] != whole[0]
    direct = evaluate(trainer.agent, "CartPole-v1", episodes=4, seed=0)
    assert whole[0] == direct.lengths.tolist()
    assert min(whole[0]) > 6
    with pytest.warns(UserWarning, match="had not ended"):
        assert played(0, None).lengths.tolist() == [6] * 4


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_an_environment_without_a_sample_is_none(backend):
    """A critic of whole environments, one in each minibatch."""
    row = plain("gru", "none", value_minibatch_size=20, optimizer_type="adam")
    reports, states = [], []
    for envs in (2, 3):
        agent = trainer_of(row, {}, backend).agent
        batch = sequences(agent, envs)
        orders = np.array([[0, 1, 2], [2, 1, 0]], np.int32)
        orders = orders[:, :envs] if envs == 3 else np.array([[0, 1], [1, 0]], np.int32)
        agent.state.minibatch_orders = lambda *_, orders=orders: orders
        reports.append(agent.update(batch))
        states.append(agent.get_state())
    assert_near(states[1], states[0], 1e-10)
    for name, value in reports[0].items():
        assert reports[1][name] == pytest.approx(value, rel=1e-8, abs=1e-11), name


def sequences(agent, envs):
    """Of two environments of unequal lengths, and one without a sample."""
    generator, steps = np.random.default_rng(3), 13

    def draw(*shape):
        return generator.standard_normal((3, steps, *shape)).swapaxes(0, 1)

    valid = np.ones((steps, 3), bool)
    valid[9:, 1] = valid[:, 2] = False
    fields = {
        "obs": draw(agent.obs_dim), "actions": draw(2), "log_probs": draw() - 3.0,
        "returns": draw(), "advantages": draw(), "starts": draw() > 1.0, "valid": valid,
    }  # fmt: skip
    memory = generator.uniform(-0.5, 0.5, (2, 3, agent.memory_size))
    fields = {name: array[:, :envs] for name, array in fields.items()}
    # In their order of time and environment, advantages are of the samples alone.
    kept = fields["advantages"][fields["valid"]]
    fields["advantages"] = (fields["advantages"] - kept.mean()) / kept.std()
    return fields | {"memory": Memory(*(states[:envs] for states in memory))}
