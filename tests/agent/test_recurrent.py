"""Recurrent agents: what they carry from step to step, and where they forget it."""

import functools
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import tests.support.memory_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS, as_array, fingerprint, native
from trpo.agent.make import load_backend
from trpo.config.presets import preset_config
from trpo.data.hidden_state import Memory
from trpo.environments.make import make_environment
from trpo.rollout.acting import actor_of
from trpo.rollout.collector import RolloutCollector
from trpo.rollout.evaluation import record_video
from trpo.runs.compiled import train_compiled_run
from trpo.training.trainer import Trainer


OBS = spaces.Box(-1.0, 1.0, (2,), np.float32)
ACTIONS = spaces.Box(-1.0, 1.0, (1,), np.float32)
KINDS = ("gru", "lstm")


def make(backend, **changes):
    options = {"recurrent_size": 5, "policy_layer_sizes": (4,),
               "critic_layer_sizes": (3,), "value_epochs": 2}  # fmt: skip
    agent = load_backend(backend).RecurrentTRPOAgent
    return agent.for_spaces(OBS, ACTIONS, **(options | changes))


def batch_of(rollout):
    """The update's batch, of advantages and returns that don't matter here."""
    settings = {"backend": "torch", "recurrent": "gru", "num_envs": 3}
    config = preset_config("TrpoTest/Fading-v0", **settings)
    return Trainer(config).prepare_batch(rollout).batch


def observations(*shape):
    return np.random.default_rng(0).standard_normal((*shape, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_start_alike_and_act_alike(kind):
    first, second = (make(backend, recurrent=kind, seed=4) for backend in BACKENDS)
    assert fingerprint(first) == fingerprint(second)
    memories = [agent.initial_memory(6) for agent in (first, second)]
    for obs in observations(3, 6):
        *ours, memories[0] = first.act(obs, memory=memories[0])
        *theirs, memories[1] = second.act(obs, memory=memories[1])
        for left, right in zip((*ours, *memories[0]), (*theirs, *memories[1]),
                               strict=True):  # fmt: skip
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    assert memories[0].policy.shape == (6, {"gru": 5, "lstm": 10}[kind])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_seen_is_remembered_until_it_is_forgotten(backend):
    agent = make(backend)
    seen, now = observations(2, 4)
    *_, memory = agent.act(seen)
    value = agent.value(now, memory)
    assert (np.abs(value - agent.value(now)) > 1e-4).all()
    starts = np.array([True, False, True, False])
    partly = agent.value(now, memory.forget(starts))
    np.testing.assert_array_equal(partly[1::2], value[1::2])
    np.testing.assert_allclose(partly[::2], agent.value(now)[::2], rtol=1e-6)
    # An action's value is that of its observation.
    np.testing.assert_array_equal(agent.act(now, memory=memory)[2], value)
    answer = agent.act(native(backend, now), memory=Memory(*(
        native(backend, states) for states in memory)))  # fmt: skip
    assert not any(isinstance(part, np.ndarray) for part in (*answer[:3], *answer[3]))
    np.testing.assert_array_equal(as_array(answer[2]), value)


def vector(mode, num_envs=3):
    makers = [
        functools.partial(make_environment, "TrpoTest/Fading-v0", seed=5, env_index=i)
        for i in range(num_envs)
    ]
    return SyncVectorEnv(makers, autoreset_mode=mode)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_rollout_remembers_within_episodes_and_bootstraps_before_the_border(
    backend, mode
):
    agent = make(backend)
    collector = RolloutCollector(vector(mode))
    rollouts = [collector.collect(agent, 9) for _ in range(2)]
    obs, values, next_values, valid, truncated = (
        np.concatenate([getattr(rollout, name) for rollout in rollouts])
        for name in ("obs", "values", "next_values", "valid", "truncated")
    )
    assert truncated.sum() > 6
    assert valid.all() == (mode != AutoresetMode.NEXT_STEP)
    for i in range(3):
        rows = np.flatnonzero(valid[:, i])
        for t in rows:
            now = obs[t, i]
            if now[1] == 1.0:  # The first observation of an episode, the only such.
                memory, count = agent.initial_memory(1), 0
            value = agent.value(now[None], memory)[0, 0]
            assert values[t, i] == pytest.approx(value, abs=1e-6)
            *_, memory = agent.act(now[None], memory=memory)
            count += 1
            after = np.float32([0.0, 0.1 * count])
            expected = agent.value(after[None], memory)[0, 0]
            assert next_values[t, i] == pytest.approx(expected, abs=1e-6)
            # Or else the border would not show.
            assert abs(expected - agent.value(after[None])[0, 0]) > 1e-4


@pytest.mark.parametrize(
    ("backend", "mode", "kind"),
    [
        ("torch", AutoresetMode.SAME_STEP, "lstm"),
        ("torch", AutoresetMode.NEXT_STEP, "gru"),
        ("jax", AutoresetMode.NEXT_STEP, "gru"),
    ],
)
def test_the_ratio_starts_at_one_in_the_middle_of_episodes(backend, mode, kind):
    agent = make(backend, recurrent=kind)
    collector = RolloutCollector(vector(mode))
    for _ in range(2):
        rollout = collector.collect(agent, 9)
        native_batch = agent._check_batch(batch_of(rollout))
        ratio = ratios(agent, native_batch)
        assert ratio.shape == (rollout.valid.sum(), 1)
        np.testing.assert_allclose(ratio, 1.0, atol=2e-6)
    # The second began in the middle of some, and borders lay in both.
    assert rollout.starts[0].sum() < 3
    assert rollout.starts[1:].sum() > 2
    memory = native_batch.obs.memory
    blank = Memory(*(0.0 * states for states in memory))
    forgotten = native_batch._replace(obs=native_batch.obs._replace(memory=blank))
    assert np.abs(ratios(agent, forgotten) - 1.0).max() > 1e-5
    blurred = native_batch.obs._replace(starts=0.0 * native_batch.obs.starts)
    assert np.abs(ratios(agent, native_batch._replace(obs=blurred)) - 1.0).max() > 1e-5


def ratios(agent, batch):
    _, ratio, _ = agent._policy_objective(
        batch.obs, batch.actions, batch.log_probs, batch.advantages
    )
    return agent.backend.to_numpy(ratio)


def test_what_is_no_sample_changes_nothing():
    """Of PyTorch; the parity suite has it of both backends."""
    backend = "torch"
    agent = make(backend)
    rollout = RolloutCollector(vector(AutoresetMode.NEXT_STEP)).collect(agent, 9)
    batch = batch_of(rollout)
    assert 0 < (~rollout.valid).sum() < 9
    results = []
    for junk in (0.0, 7.0):
        changed = {
            name: np.where(rollout.valid, array, junk)
            for name, array in batch._asdict().items()
            if name in ("log_probs", "returns", "advantages")
        }
        changed["actions"] = np.where(rollout.valid[..., None], batch.actions, junk)
        again = make(backend)
        metrics = again.update(batch._replace(**changed))
        assert metrics["policy/status"] == 0.0
        results.append((fingerprint(again), metrics))
    assert results[0] == results[1]
    assert results[0][0] != fingerprint(make(backend))


def test_a_player_forgets_what_the_last_episode_showed():
    agent = make("torch")
    actor = actor_of(agent, 2, steps=1)
    obs = observations(2, 2)
    actor.act(obs[0], np.array([True, True]))
    actions = actor.act(obs[1], np.array([True, False]))
    _, (_, value) = actor.evaluated(obs, actions, None)
    blank = agent.value(obs[1])
    assert value[0] == pytest.approx(blank[0, 0])
    assert abs(value[1] - blank[1, 0]) > 1e-4


def test_each_class_refuses_the_other_s_configuration():
    module = load_backend("torch")
    arguments = (2, 1, -1.0, 1.0, "cpu", (4,), (4,))
    with pytest.raises(ValueError, match=r"`recurrent`.*'gru'.*RecurrentTRPOAgent"):
        module.TRPOAgent(*arguments, recurrent="gru")
    with pytest.raises(ValueError, match=r"`recurrent`.*'none'"):
        module.RecurrentTRPOAgent(*arguments, recurrent="none")
    for name, asked in (
        ("activation", "relu"),
        ("layer_norm", True),
        ("share_encoder", True),
        ("value_network", torch.nn.Linear(2, 1)),
    ):
        with pytest.raises(
            ValueError, match=f"`{name}`: expected .* a recurrent agent"
        ):
            module.RecurrentTRPOAgent(*arguments, **{name: asked})


def test_compiled_training_refuses_a_memory(tmp_path):
    config = preset_config("phys2d/Pendulum-v0", backend="jax", recurrent="gru")
    with pytest.raises(ValueError, match=r"`recurrent`: expected 'none' for compiled"):
        train_compiled_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


BATCH = {
    "obs": observations(4, 3), "actions": np.zeros((4, 3, 1)),
    "log_probs": np.zeros((4, 3)), "returns": np.ones((4, 3)),
    "advantages": np.ones((4, 3)), "starts": np.zeros((4, 3), dtype=bool),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": observations(12)}, r"`batch\['obs'\]`: expected shape \[N, N, 2\]"),
        ({"actions": np.zeros((3, 4, 1))}, r"`batch\['actions'\]`.*\[4, 3"),
        ({"actions": np.zeros((4, 3, 2))}, r"`batch\['actions'\]`"),
        ({"returns": np.ones(12)}, r"`batch\['returns'\]`"),
        ({"advantages": np.full((4, 3), np.nan)}, r"`batch\['advantages'\]`.*finite"),
        ({"starts": np.zeros((3, 4))}, r"`batch\['starts'\]`.*\[4, 3\]"),
        ({"starts": np.full((4, 3), 0.5)}, r"`batch\['starts'\]`.*True and False"),
        ({"valid": np.zeros((4, 3))}, r"`batch\['valid'\]`.*at least one"),
        ({"memory": np.zeros((3, 5))}, r"`batch\['memory'\]`.*Memory"),
        ({"memory": Memory(np.zeros((3, 5)), np.zeros((4, 5)))}, r"critic`.*\[3, 5\]"),
        ({"memory": Memory(np.full((3, 5), np.nan), np.zeros((3, 5)))}, "finite"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_by_name(change, message):
    agent = make("torch", normalize_advantages=False)
    before = fingerprint(agent)
    with pytest.raises(ValueError, match=message):
        agent.update(BATCH | change)
    with pytest.raises(ValueError, match="no 'starts'"):
        agent.update({n: a for n, a in BATCH.items() if n != "starts"})
    assert fingerprint(agent) == before
    assert agent.update(BATCH)["policy/status"] in (0.0, 1.0)


@pytest.mark.parametrize("kind", ["orthogonal", "torch", "flax"])
def test_initial_weights_of_a_cell(kind):
    state = make("torch", initialization=kind, recurrent_size=6).get_state()
    hidden = state["policy.cell.hidden.weight"]
    assert hidden.shape == (18, 6)
    assert state["value.cell.input.weight"].shape == (18, 2)
    if kind == "torch":
        assert 0.3 < np.abs(hidden).max() <= 1 / np.sqrt(6)
        assert 0.3 < np.abs(state["policy.cell.input.bias"]).max() <= 1 / np.sqrt(6)
    else:
        for gate in np.split(hidden, 3):
            np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-6)
        assert not state["policy.cell.input.bias"].any()
    gates = np.split(hidden, 3)
    assert np.abs(gates[0] - gates[1]).max() > 0.05
    assert np.abs(hidden - state["value.cell.hidden.weight"]).max() > 0.05


def test_a_video_is_played_with_memory(tmp_path, monkeypatch):
    """`record_video` wants a renderer; the wrapper is taken out here."""

    def record(env, directory, **_):
        Path(directory).mkdir()
        (Path(directory) / "a.mp4").touch()
        return env

    monkeypatch.setattr(gymnasium.wrappers, "RecordVideo", record)
    agent, seen = make("torch"), []
    act = agent.act

    def spy(obs, deterministic, mask, memory):
        seen.append(float(np.abs(memory.policy).sum()))
        return act(obs, deterministic, mask, memory)

    monkeypatch.setattr(agent, "act", spy)
    monkeypatch.setattr(
        "trpo.rollout.evaluation.filmed_environment",
        lambda env, *_: make_environment(env, seed=0),
    )
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").symlink_to(tmp_path / "outside")
    film = record_video(
        agent, "TrpoTest/Fading-v0", seed=0, directory=tmp_path / "films"
    )
    assert (film.read_bytes(), film.is_symlink()) == (b"", False)
    assert (tmp_path / "outside").read_text() == "mine"
    assert len(seen) >= 2
    assert seen[0] == 0.0
    assert min(seen[1:]) > 0.0
