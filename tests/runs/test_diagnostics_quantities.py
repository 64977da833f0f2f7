"""Each panel of `trpo plot` draws the quantity and the unit that its title says.

An update's numbers are worked out anew in NumPy, from the agent's state before and
after it; a loop's from the episodes that it played.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from examples.cost_environments import ENV_ID
from tests.support.agents import BACKENDS, make_agent
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.runs.curves import (
    COST_PANEL,
    PANELS,
    TIMES,
    LoggedRun,
    panels_of,
    points,
    time_split,
)
from trpo.training.trainer import Trainer


RADIUS, CG_ITERS, BACKTRACK = 0.05, 8, 0.5


def logged(config, *rows):
    return LoggedRun("run", Path("run"), config, list(rows), None)


def drawn(run, title):
    """What a panel's curves have, by label, at the first row."""
    (panel,) = (panel for panel in panels_of([run]) if panel.title == title)
    values = {curve.label: points(run, curve)[1] for curve in panel.curves}
    return {label: found[0] for label, found in values.items() if found}


def network(state, prefix, obs):
    """Outputs of a tanh network [N, units]."""
    count = sum(n.startswith(f"{prefix}layers.") for n in state) // 2
    for i in range(count):
        weight = state[f"{prefix}layers.{i}.weight"].astype(np.float64)
        obs = obs @ weight.T + state[f"{prefix}layers.{i}.bias"]
        obs = np.tanh(obs) if i < count - 1 else obs
    return obs


def policy(state, obs):
    return network(state, "policy.", obs), state["policy.log_std"].astype(np.float64)


def log_prob(state, obs, actions):
    mean, log_std = policy(state, obs)
    z = (actions - mean) * np.exp(-log_std)
    return (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(1)


def surrogate(state, batch):
    ratio = np.exp(
        log_prob(state, batch["obs"], batch["actions"]) - batch["log_probs"].ravel()
    )
    return (ratio * batch["advantages"]).mean()


def between(old, new, share):
    """The policy at a share of the way from one state to another."""
    return {
        name: old[name] + share * (new[name].astype(np.float64) - old[name])
        for name in old
        if name.startswith("policy.")
    }


@pytest.fixture(scope="module", params=BACKENDS)
def update(request):
    """The agent's states round one update, its batch and its row of metrics."""
    agent = make_agent(
        request.param, target_kl=RADIUS, cg_iters=CG_ITERS, backtrack_coeff=BACKTRACK,
        value_epochs=20, value_lr=1e-2,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    obs = generator.standard_normal((300, 3)).astype(np.float32)
    actions, log_probs, _ = agent.act(obs)
    # Far from linear in the parameters, so that the full step is too long.
    advantages = np.where(np.abs(actions[:, 0]) < 0.15, 30.0, -1.0).astype(np.float32)
    batch = {"obs": obs, "actions": actions, "log_probs": log_probs,
             "returns": obs.sum(1), "advantages": advantages}  # fmt: skip
    before = agent.get_state()
    row = {"step": 300.0, "update": 1.0, **agent.update(batch)}
    config = TrainConfig(env_id="Pendulum-v1", agent=agent.config)
    return before, agent.get_state(), batch, logged(config, row)


def test_kl_is_the_joint_kl_beside_its_bound(update):
    before, after, batch, run = update
    (old, old_log_std), (new, new_log_std) = (
        policy(state, batch["obs"]) for state in (before, after)
    )
    kl = new_log_std - old_log_std - 0.5
    kl = kl + 0.5 * (np.exp(2 * old_log_std) + (old - new) ** 2) / np.exp(
        2 * new_log_std
    )
    found = drawn(run, "mean KL(old || new), nats")
    assert found["taken"] == pytest.approx(kl.sum(1).mean(), rel=1e-3)
    assert found["target"] == RADIUS
    assert found["taken"] <= found["target"]


def test_agreement_is_actual_over_predicted_improvement_of_the_step_taken(update):
    before, after, batch, run = update
    start = surrogate(before, batch)
    actual = surrogate(after, batch) - start
    small = 1e-6
    predicted = (surrogate(between(before, after, small), batch) - start) / small
    found = drawn(run, "agreement: actual over predicted improvement")[""]
    assert found == pytest.approx(actual / predicted, rel=1e-3)


def test_the_index_is_how_often_the_full_step_was_cut(update):
    before, after, _, run = update
    moved = math.sqrt(
        sum(((after[n] - before[n]) ** 2).sum() for n in between(before, after, 0))
    )
    fraction = moved / run.rows[0]["policy/step_norm"]
    found = drawn(run, "line-search index (most: none accepted)")
    assert found["accepted"] == pytest.approx(
        math.log(fraction) / math.log(BACKTRACK), abs=1e-3
    )
    assert 0 < found["accepted"] < found["most"] == 10


def test_entropy_and_explained_variance_are_those_after_the_update(update):
    _, after, batch, run = update
    entropy = (after["policy.log_std"] + 0.5 * np.log(2 * np.pi * np.e)).sum()
    assert drawn(run, "policy's entropy, nats")[""] == pytest.approx(entropy, rel=1e-5)
    values = network(after, "value.", batch["obs"])[:, 0]
    left = (batch["returns"] - values).var() / batch["returns"].var()
    found = drawn(run, "critic's explained variance")[""]
    assert found == pytest.approx(1.0 - left, abs=1e-4)


def test_iterations_stand_beside_their_most(update):
    run = update[-1]
    found = drawn(run, "conjugate-gradient iterations")
    assert found == {"done": CG_ITERS, "most": CG_ITERS}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_residual_is_in_the_unit_of_its_tolerance(backend):
    """Conjugate gradient stops where what is drawn falls under the line beside it."""
    title = "conjugate gradient's residual |r| / |g|"

    def solved(cg_iters, tolerance, scale=1.0):
        agent = make_agent(backend, cg_iters=cg_iters, cg_residual_tol=tolerance)
        obs = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
        actions, log_probs, value = agent.act(obs)
        batch = {"obs": obs, "actions": actions, "log_probs": log_probs,
                 "returns": value, "advantages": scale * actions[:, 0]}  # fmt: skip
        row = agent.update(batch)
        config = TrainConfig(env_id="Pendulum-v1", agent=agent.config)
        return drawn(logged(config, {"step": 40.0, **row}), title), row["cg/iterations"]

    residuals = [solved(count, 0.0)[0] for count in (1, 2, 3)]
    assert all("tolerance" not in found for found in residuals)  # 0 has no logarithm.
    residuals = [found["reached"] for found in residuals]
    assert 1.0 > residuals[0] > residuals[1] > residuals[2]
    for count, residual in enumerate(residuals, 1):
        for factor, more in ((1.001, 0), (0.999, 1)):
            found, iterations = solved(10, (factor * residual) ** 2)
            assert found["tolerance"] == pytest.approx(factor * residual)
            assert iterations == count + more
            assert found["reached"] <= found["tolerance"]
    # Relative to the gradient, whatever the scale of the advantages.
    assert solved(2, 0.0, scale=1024.0)[0]["reached"] == residuals[1]


def test_returns_and_costs_are_means_of_the_last_hundred_raw_episodes():
    config = preset_config(
        ENV_ID, backend="torch", num_envs=8, rollout_steps=500,
        total_steps=12_000, cost_limit=20.0, value_epochs=1, cg_iters=1, seed=1,
        policy_layer_sizes=(4,), critic_layer_sizes=(4,),
    )  # fmt: skip
    trainer, episodes = Trainer(config), []
    rewards = costs = np.zeros(8)
    for _ in range(3):

        def listen(rollout):
            nonlocal rewards, costs
            for t in range(len(rollout.rewards)):
                rewards = rewards + np.where(rollout.valid[t], rollout.rewards[t], 0.0)
                costs = costs + rollout.costs.costs[t]
                done = rollout.terminated[t] | rollout.truncated[t]
                episodes.extend(zip(rewards[done], costs[done], strict=True))
                rewards, costs = np.where(done, 0.0, rewards), np.where(done, 0, costs)

        progress = trainer.train_once(listen)
        run = logged(config, {"step": progress.step, **progress.metrics})
        returns, cost = np.mean(episodes[-100:], axis=0)
        found = drawn(run, "episode return")
        assert found["training, mean of last 100"] == pytest.approx(returns)
        found = drawn(run, COST_PANEL.title)
        assert found["training, mean of last 100"] == pytest.approx(cost)
        assert found["limit"] == 20.0
    assert len(episodes) > 100
    trainer.close()


def test_what_is_measured_in_seconds_and_by_evaluation_is_drawn_as_logged():
    rows = [
        {"step": 64.0, "evaluation/return_mean": -3.5}
        | {name: 10.0**i for i, (_, name) in enumerate(TIMES)},
        {"step": 128.0} | {name: 10.0**i for i, (_, name) in enumerate(TIMES)},
    ]
    run = logged(TrainConfig(env_id="Pendulum-v1"), *rows)
    assert drawn(run, "episode return") == {"evaluation": -3.5}
    assert time_split(run) == {"rollout": 2.0, "update": 20.0, "evaluation": 200.0}


def test_every_panel_is_checked_here():
    """A new panel needs a test of what it draws; these are all."""
    assert [panel.title for panel in (*PANELS, COST_PANEL)] == [
        "episode return",
        "mean KL(old || new), nats",
        "agreement: actual over predicted improvement",
        "conjugate gradient's residual |r| / |g|",
        "conjugate-gradient iterations",
        "line-search index (most: none accepted)",
        "critic's explained variance",
        "policy's entropy, nats",
        "episode cost",
    ]
