"""`predict` as Stable-Baselines3's, and environments' actions there and back."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.agent.test_copies import SPACES, for_spaces
from tests.support.agents import ACT_DIM, BACKENDS, OBS_DIM, agent_module, make_agent
from tests.support.device_agents import KINDS, make
from trpo.data.hidden_state import Memory
from trpo.spaces.spaces import policy_spec


def rows_of(space, count):
    """A batch of a space's samples as a vector environment gives it."""
    samples = [space.sample() for _ in range(count)]

    def stacked(space, samples):
        if isinstance(space, spaces.Dict):
            return {n: stacked(p, [s[n] for s in samples]) for n, p in space.items()}
        if isinstance(space, spaces.Tuple):
            pairs = enumerate(space)
            return tuple(stacked(p, [s[i] for s in samples]) for i, p in pairs)
        return np.stack(samples)

    return samples, stacked(space, samples)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_observation_or_a_batch_gives_what_step_takes(backend, name):
    observation_space, action_space = SPACES[name]
    observation_space.seed(1)
    agent = for_spaces(backend, name)
    samples, batch = rows_of(observation_space, 3)
    flat = np.stack([spaces.flatten(observation_space, s) for s in samples])
    raw = agent.act(flat, deterministic=True)[0]
    one, state = agent.predict(samples[0], deterministic=True)
    assert state is None
    assert action_space.contains(one)
    many, _ = agent.predict(batch, deterministic=True)
    np.testing.assert_equal(many, agent.spec.to_environment(raw))
    alone = agent.act(flat[:1], deterministic=True)[0]
    np.testing.assert_equal(one, agent.spec.one_to_environment(alone[0]))
    # Sampled unless it is asked not to, as there.
    drawn = agent.get_state()["random.action_draws"]
    agent.predict(batch)
    assert agent.get_state()["random.action_draws"] == drawn + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_observations_of_another_space_are_refused(backend):
    agent = for_spaces(backend, "joint")
    for bad in ({"at": 1}, {"see": np.zeros((8, 8)), "at": [1, 2]}, np.zeros(3), 1):
        with pytest.raises(ValueError, match=r"`obs.*`: expected"):
            agent.predict(bad)
    with pytest.raises(ValueError, match=r"`obs`: expected one of Discrete"):
        for_spaces(backend, "discrete").predict(1)
    sizes_alone = make_agent(backend)
    assert sizes_alone.predict(np.zeros(OBS_DIM))[0].shape == (ACT_DIM,)
    assert sizes_alone.predict(np.zeros((1, OBS_DIM)))[0].shape == (1, ACT_DIM)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_recurrent_agent_carries_its_state_and_forgets_at_a_start(backend):
    kind = next(kind for kind in KINDS if kind.name == "gru")
    agent = make(kind, backend, "cpu")
    obs = np.random.default_rng(0).standard_normal((2, agent.obs_dim))
    first, state = agent.predict(obs, deterministic=True)
    assert isinstance(state, Memory)
    on, after = agent.predict(obs, state, np.array([False, True]), deterministic=True)
    assert (on[1] == first[1]).all()
    assert (on[0] != first[0]).any()
    assert (after.policy[1] == state.policy[1]).all()
    with pytest.raises(ValueError, match="`episode_start`"):
        agent.predict(obs, state, np.array([True]))


@pytest.mark.parametrize("name", SPACES)
def test_from_environment_is_the_way_back(name):
    _, action_space = SPACES[name]
    spec = policy_spec(spaces.Box(-1, 1, (1,)), action_space)
    action_space.seed(2)
    _, batch = rows_of(action_space, 5)
    there = spec.from_environment(batch)
    assert there.shape == (5, spec.act_dim)
    np.testing.assert_equal(spec.to_environment(there), batch)
    one = action_space.sample()
    assert spec.from_environment(one).shape == (spec.act_dim,)
    np.testing.assert_equal(spec.one_to_environment(spec.from_environment(one)), one)
    # Tensors too, both ways, also with a gradient.
    tensor = torch.tensor(there, requires_grad=True)
    np.testing.assert_equal(spec.to_environment(tensor), batch)
    if spec.structure is None:
        whole = torch.as_tensor(batch)
        np.testing.assert_equal(spec.from_environment(whole), there)
        with pytest.raises(ValueError, match="`actions`: expected shape"):
            spec.from_environment(np.zeros((5, 7, 7)))


def test_squashed_actions_come_back_within_rounding():
    box = spaces.Box(np.array([-2.0, 1.0]), np.array([3.0, 1.0]), dtype=np.float64)
    spec = policy_spec(spaces.Box(-1, 1, (1,)), box, "squashed_gaussian")
    actions = np.array([[-1.5, 0.3], [4.0, 2.0]])
    sent = spec.to_environment(actions)
    back = spec.from_environment(sent)
    np.testing.assert_allclose(back[:, 0], actions[:, 0], rtol=1e-9)
    edge = spec.from_environment(np.array([[-2.0, 1.0], [3.0, 1.0]]))
    assert np.isfinite(edge).all()
    np.testing.assert_allclose(spec.to_environment(edge), [[-2.0, 1.0], [3.0, 1.0]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_with_a_gradient_are_detached(backend):
    plain, other = (make_agent(backend, normalize_observations=True) for _ in "ab")
    obs = np.random.default_rng(0).standard_normal((40, OBS_DIM)).astype(np.float32)
    with_gradient = torch.tensor(obs, requires_grad=True) * 1.0
    for agent, given in ((plain, obs), (other, with_gradient)):
        agent.observe(given)
        action, log_prob, value = agent.act(given)
        batch = {"obs": given, "actions": action, "log_probs": log_prob}
        batch |= {"returns": value, "advantages": given[:, 0]}
        agent.update(batch)
        agent.predict(given)
    mine, theirs = (a.get_state() for a in (plain, other))
    assert all((mine[name] == theirs[name]).all() for name in mine)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_spaces_of_a_vector_environment_are_refused(backend):
    make = agent_module(backend).TRPOAgent.for_spaces
    from gymnasium.vector.utils import batch_space

    for name, (observation_space, action_space) in SPACES.items():
        if name in ("discrete", "switches"):  # Of these the rows are one array.
            continue
        joint = batch_space(observation_space, 4), batch_space(action_space, 4)
        with pytest.raises(ValueError, match=r"`observation_space`.*of 4 together"):
            make(*joint)
    joint = (batch_space(s, 4) for s in (spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
    with pytest.raises(ValueError, match=r"env\.single_observation_space"):
        make(*joint)
    # Frames of one environment are no rows of several.
    make(spaces.Box(-1.0, 1.0, (4, 3)), spaces.Box(-1.0, 1.0, (2,)))
