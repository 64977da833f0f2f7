"""Learning, judged by probe environments with known answers, in both backends.

The same judgements are made with a fault planted, and must then fail.
"""

import numpy as np
import pytest

import tests.support.probes  # noqa: F401  (registers TrpoProbe/…)
import trpo.training.trainer
from tests.support.probes import BEST_ACTION
from trpo.config.presets import preset_config
from trpo.data.advantages import generalized_advantages
from trpo.environments.checked_vector import CheckedVector
from trpo.training.trainer import Trainer, UpdateInputs


BACKENDS = ("torch", "jax")
GAMMA = 0.8
# Fast critic, and rewards as they are, so that values are in their unit.
SETTINGS = {
    "num_envs": 8,
    "rollout_steps": 32,
    "normalize_observations": False,
    "scale_returns": False,
    "policy_layer_sizes": (16,),
    "critic_layer_sizes": (16,),
    "gamma": GAMMA,
    "target_kl": 0.05,
    "value_lr": 1e-2,
    "value_minibatch_size": 64,
}


def train(probe, backend, updates):
    trainer = Trainer(
        preset_config(f"TrpoProbe/{probe}-v0", backend=backend, **SETTINGS)
    )
    try:
        trainer.run(num_updates=updates)
    finally:
        trainer.close()
    return trainer.agent


def values(agent, *obs):
    return agent.value(np.array(obs, dtype=np.float32)[:, None])[:, 0]


def best_actions(agent, *obs):
    obs = np.array(obs, dtype=np.float32)[:, None]
    return agent.act(obs, deterministic=True)[0][:, 0]


def judge_constant_reward(backend):
    agent = train("ConstantReward", backend, updates=15)
    np.testing.assert_allclose(values(agent, 0.0), [1.0], atol=0.05)


def judge_two_step(backend):
    agent = train("TwoStep", backend, updates=20)
    np.testing.assert_allclose(values(agent, -1.0, 1.0), [GAMMA, 1.0], atol=0.05)


def judge_best_action(backend):
    agent = train("BestAction", backend, updates=30)
    np.testing.assert_allclose(best_actions(agent, 0.0), [BEST_ACTION], atol=0.1)


def judge_copy_observation(backend):
    agent = train("CopyObservation", backend, updates=80)
    shown = np.linspace(-0.9, 0.9, 7)
    np.testing.assert_allclose(best_actions(agent, *shown), shown, atol=0.15)


def judge_truncation(backend):
    agent = train("Truncation", backend, updates=40)
    endless = 1.0 / (1.0 - GAMMA)
    expected = [GAMMA * endless, endless]
    np.testing.assert_allclose(values(agent, -1.0, 1.0), expected, rtol=0.06)


JUDGES = (
    judge_constant_reward,
    judge_two_step,
    judge_best_action,
    judge_copy_observation,
    judge_truncation,
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.__name__[6:])
def test_probe(judge, backend):
    judge(backend)


def truncation_is_termination(monkeypatch):
    def faulty(rewards, values, next_values, terminated, truncated, **options):
        ended, never = terminated | truncated, np.zeros_like(truncated)
        return generalized_advantages(
            rewards, values, next_values, ended, never, **options
        )

    monkeypatch.setattr(trpo.training.trainer, "generalized_advantages", faulty)


def termination_is_ignored(monkeypatch):
    def faulty(rewards, values, next_values, terminated, truncated, **options):
        following = np.concatenate([values[1:], values[-1:]])
        never = np.zeros_like(terminated)
        return generalized_advantages(
            rewards, values, following, never, terminated, **options
        )

    monkeypatch.setattr(trpo.training.trainer, "generalized_advantages", faulty)


def bootstrap_is_from_the_next_episode(monkeypatch):
    monkeypatch.setattr(CheckedVector, "_final", lambda _, obs, *__: obs)


def discount_is_one(monkeypatch):
    def faulty(*arrays, gamma, gae_lambda):
        return generalized_advantages(*arrays, gamma=1.0, gae_lambda=gae_lambda)

    monkeypatch.setattr(trpo.training.trainer, "generalized_advantages", faulty)


def advantages_have_the_wrong_sign(monkeypatch):
    normalize = trpo.training.trainer.normalize_advantages
    monkeypatch.setattr(
        trpo.training.trainer, "normalize_advantages", lambda *given: -normalize(*given)
    )


def observations_are_misaligned(monkeypatch):
    prepare = Trainer.prepare_batch

    def faulty(self, rollout):
        batch, deviation = prepare(self, rollout)
        return UpdateInputs(
            batch._replace(obs=np.roll(batch.obs, 1, axis=0)), deviation
        )

    monkeypatch.setattr(Trainer, "prepare_batch", faulty)


# The loop is shared by both backends: one of them shows that its faults are seen.
@pytest.mark.parametrize(
    ("fault", "judge"),
    [
        (termination_is_ignored, judge_constant_reward),
        (discount_is_one, judge_two_step),
        (advantages_have_the_wrong_sign, judge_best_action),
        (observations_are_misaligned, judge_copy_observation),
        (truncation_is_termination, judge_truncation),
        (bootstrap_is_from_the_next_episode, judge_truncation),
    ],
    ids=lambda function: function.__name__,
)
def test_a_planted_fault_fails_its_probe(monkeypatch, fault, judge):
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        judge("jax")
