"""Actions that an environment forbids: never taken, and as if they did not exist."""

import functools

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS, agent_module, fingerprint, native
from tests.support.training_runs import assert_resumes_exactly
from trpo.config.presets import preset_config
from trpo.environments.action_masks import ActionMaskError
from trpo.environments.make import make_environment, make_vector_environment
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.evaluation import evaluate
from trpo.training.trainer import Trainer


OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
GAME = "TrpoTest/TicTacToe-v0"
# Workers have to register it themselves.
ASYNC_GAME = f"tests.support.counting_environments:{GAME}"
SETTINGS = {
    "num_envs": 8, "rollout_steps": 64, "normalize_observations": False,
    "policy_layer_sizes": (32,), "critic_layer_sizes": (32,), "target_kl": 0.03,
    "cg_damping": 0.01, "value_epochs": 5, "scale_returns": False,
}  # fmt: skip
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def make(backend, space, **changes):
    options = {"policy_layer_sizes": (5,), "critic_layer_sizes": (6,)}
    options |= {"value_epochs": 2}
    return agent_module(backend).TRPOAgent.for_spaces(OBS, space, **(options | changes))


def vector(mode, env_id=GAME):
    makers = [
        functools.partial(make_environment, env_id, seed=5, env_index=i)
        for i in range(3)
    ]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def player(backend="torch"):
    box = spaces.Box(-1.0, 1.0, (9,), np.float32)
    return agent_module(backend).TRPOAgent.for_spaces(
        box, spaces.Discrete(9), policy_layer_sizes=(8,), critic_layer_sizes=(8,)
    )


@pytest.mark.parametrize("mode", [*AutoresetMode, "sync", "async"])
def test_each_observation_comes_with_its_own_mask(mode):
    ours = mode in ("sync", "async")
    env = (
        make_vector_environment(ASYNC_GAME, 3, seed=5, vectorization=mode)
        if ours
        else vector(mode)
    )
    try:
        rollout = RolloutCollector(env).collect(player(), 30)
    finally:
        env.close()
    assert rollout.action_masks.dtype == bool
    np.testing.assert_array_equal(
        rollout.action_masks[rollout.valid], rollout.obs[rollout.valid] == 0
    )
    # Where the environment is about to reset itself, anything can be "done".
    assert rollout.action_masks[~rollout.valid].all()
    assert len(rollout.episodes) > 10


@each_backend
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiBinary(2)])
@pytest.mark.parametrize("noise", [0.0, 1.0 - 2.0**-53])
def test_the_ends_of_the_noise_choose_what_is_allowed(backend, space, noise):
    """Exactly 0, and what rounds to 1: of an option with no probability there is no
    room between them."""
    agent = make(backend, space)
    rows, options = 4, sum(agent.head.options)
    mask = np.ones((rows, options))
    # The first is forbidden, the last, and, of switches, either way of both.
    mask[0, [0, options - 2][: 1 + (options > 3)]] = 0
    mask[1, [1, options - 1][-1 - (options > 3) :]] = 0
    agent.state.draw_noise = lambda size: np.full((size, agent.act_dim), noise)
    actions = agent.act(np.zeros((rows, 3), np.float32), action_mask=mask)[0]
    agent.head.check_actions("actions", actions, mask)
    assert np.isfinite(
        agent.act(np.zeros((rows, 3), np.float32), action_mask=mask)[1]
    ).all()


def test_an_environment_without_masks_has_none():
    env = make_vector_environment("TrpoTest/Echo-v0", 2, seed=0)
    collector = RolloutCollector(env)
    agent = make("torch", env.single_action_space)
    assert collector.action_mask is None
    obs_dim = collector.spec.obs_dim
    assert agent.head == collector.spec.head
    assert obs_dim == 5
    env.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [("Missing", "got none from environment 0"),
     ("Closed", r"at least one allowed option.*It came from environment \d")],
)  # fmt: skip
def test_a_mask_that_is_missing_or_forbids_all_is_refused(name, message):
    env = make_vector_environment(f"TrpoTest/TicTacToe{name}-v0", 3, seed=3)
    with pytest.raises(ActionMaskError, match=message):
        RolloutCollector(env).collect(player(), 30)
    env.close()


# Space, mask, a space of what is left to choose, its outputs among the first's, and
# the latter's actions from the former's.
FEWER = {
    "Discrete": (
        spaces.Discrete(5, start=2), [0, 1, 0, 1, 1],
        spaces.Discrete(3), [1, 3, 4],
        lambda actions: np.searchsorted([1, 3, 4], actions),
    ),
    "MultiDiscrete": (
        spaces.MultiDiscrete([3, 2]), [1, 0, 1, 0, 1],
        spaces.Discrete(2), [0, 2], lambda actions: actions[:, :1] / 2,
    ),
    "MultiBinary": (
        spaces.MultiBinary(3), [1, 1, 0, 1, 1, 0],
        spaces.MultiBinary(1), [0], lambda actions: actions[:, :1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FEWER)
def test_forbidden_options_are_as_if_they_were_not_there(kind):
    """The policy of the allowed options alone, with the same weights, is the oracle.

    In PyTorch alone: the parity suite's masked cases tie JAX to it.
    """
    space, mask, smaller, outputs, translate = FEWER[kind]
    agent, oracle = (make("torch", which, seed=3) for which in (space, smaller))
    before, little = agent.get_state(), oracle.get_state()
    before["policy.layers.1.weight"] *= 60.0
    agent.set_state(before)
    for name, array in before.items():
        little[name] = array[outputs] if name.startswith("policy.layers.1") else array
    oracle.set_state(little)
    obs = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    masks = np.repeat(np.array(mask)[None], len(obs), 0)
    actions, log_probs, value = agent.act(obs, action_mask=masks)
    check_allowed(agent, actions, np.array(mask))
    advantages = np.random.default_rng(1).standard_normal(len(obs))
    batch = {"obs": obs, "actions": actions, "log_probs": log_probs,
             "returns": value + 1.0, "advantages": advantages}  # fmt: skip
    got = agent.update(batch | {"action_mask": masks})
    want = oracle.update(batch | {"actions": translate(actions).astype(np.float32)})
    assert got["policy/line_search_accepted"] == 1.0
    for name, number in want.items():
        assert got[name] == pytest.approx(number, rel=2e-3, abs=1e-5), name
    # A gradient of exactly zero moves nothing.
    hidden = np.setdiff1d(np.arange(agent.head.output_dim), outputs)
    for name in ("policy.layers.1.weight", "policy.layers.1.bias"):
        after = agent.get_state()[name]
        np.testing.assert_array_equal(after[hidden], before[name][hidden])
        assert (after[outputs] != before[name][outputs]).any()


def check_allowed(agent, actions, mask):
    columns = actions.astype(int) + np.cumsum((0, *agent.head.options[:-1]))
    assert mask[columns].all()
    assert len(np.unique(actions, axis=0)) > 1


@each_backend
def test_masks_and_actions_that_do_not_fit_are_refused(backend):
    agent = make(backend, spaces.Discrete(3))
    obs = np.zeros((4, 3), np.float32)
    mask = np.ones((4, 3))
    before = fingerprint(agent)
    for wrong, message in (
        (mask[:, :2], "expected shape"),
        (mask[:3], "expected shape"),
        (mask * [0, 0, 0], "at least one allowed option"),
        (mask * 0.5, "0 and 1"),
    ):
        for given in (wrong, native(backend, wrong.astype(np.float32))):
            with pytest.raises(ValueError, match=f"`action_mask`: .*{message}"):
                agent.act(obs, action_mask=given)
    box = make(backend, spaces.Box(-1.0, 1.0, (2,)))
    with pytest.raises(ValueError, match="`action_mask`: expected None"):
        box.act(obs, action_mask=mask)
    assert fingerprint(agent) == before


@pytest.mark.parametrize(
    ("space", "given"),
    [
        (spaces.MultiDiscrete([2, 3]), (np.array([1, 0]), np.array([0, 1, 1]))),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 0, 0, 1, 1])),
        (spaces.MultiBinary(2), np.array([[1, 0], [1, 1]])),
        (spaces.Discrete(2), [True, False]),
    ],
)
def test_masks_come_in_one_array_or_one_for_each_choice(space, given):
    head = make("torch", space).head
    flat = np.concatenate([np.ravel(part) for part in given]).astype(bool)
    np.testing.assert_array_equal(head.flat_mask(given), flat)
    with pytest.raises(ValueError, match="`action_mask`: expected"):
        head.flat_mask(np.ones(7))


@each_backend
def test_a_game_is_learned_without_an_illegal_move(backend):
    trainer = Trainer(preset_config(GAME, backend=backend, **SETTINGS))
    try:
        before = evaluate(trainer.agent, GAME, episodes=100, seed=1).mean
        trainer.run(num_updates=20)
    finally:
        trainer.close()
    # Whoever moves at random scores about 0: either side begins as often.
    assert before < 0.45
    assert evaluate(trainer.agent, GAME, episodes=100, seed=1).mean > 0.6


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_resumed_run_continues_exactly_with_its_masks(vectorization):
    config = preset_config(
        ASYNC_GAME, backend="torch", vectorization=vectorization, total_steps=352,
        **(SETTINGS | {"rollout_steps": 11}),
    )  # fmt: skip

    def has_its_masks(resumed):
        np.testing.assert_array_equal(
            resumed.collector.action_mask, resumed.collector.obs == 0
        )

    assert_resumes_exactly(config, has_its_masks)
