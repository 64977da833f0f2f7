"""Training with a limit on costs, from environment to evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest

import tests.support.cost_environments  # noqa: F401  (registers TrpoTest/…)
from examples.cost_environments import ENV_ID
from tests.support.agents import BACKENDS
from tests.support.training_runs import assert_resumes_exactly
from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.data.report import StepKind
from trpo.environments.step_costs import CostError
from trpo.runs.curves import COST_PANEL, load_runs, panels_of, points
from trpo.runs.curves_figure import draw
from trpo.runs.directory import load_agent
from trpo.runs.metrics import read_metrics
from trpo.training.costs import COST_COLUMNS, CostTraining
from trpo.training.trainer import Trainer


EXAMPLE = str(Path(__file__).parents[2] / "examples" / "cost_environments.py")
SETTINGS = {
    "num_envs": 4, "rollout_steps": 60, "policy_layer_sizes": (8,),
    "critic_layer_sizes": (8,), "value_epochs": 2, "eval_episodes": 0,
    "total_steps": 4 * 60 * 4, "seed": 3, "gamma": 0.97, "gae_lambda": 0.9,
    "cost_gamma": 0.9, "cost_lambda": 0.8,
}  # fmt: skip


def configure(backend="torch", cost_limit=20.0, **changes):
    given = SETTINGS | changes
    return preset_config(ENV_ID, backend=backend, cost_limit=cost_limit, **given)


def run(config, num_updates=None):
    trainer = Trainer(config)
    rows = []
    try:
        trainer.run(lambda p: rows.append(p.metrics), num_updates)
        return trainer.get_state(), rows
    finally:
        trainer.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_limit_that_no_cost_reaches_leaves_training_trpos_bit_for_bit(backend):
    plain, rows = run(configure(backend, None))
    limited, limited_rows = run(configure(backend, 1e9))
    for name, array in plain.items():
        np.testing.assert_array_equal(array, limited[name], err_msg=name)
    assert not [name for name in plain if "cost" in name]
    assert not set(COST_COLUMNS) & set(rows[-1])
    assert set(limited_rows[-1]) - set(rows[-1]) == set(COST_COLUMNS)
    assert {row["cost/step_kind"] for row in limited_rows} == {StepKind.FREE}
    # Costs are measured all the same.
    assert 0.0 < limited_rows[-1]["rollout/episode_cost_mean"] <= 100.0


def test_a_resumed_run_continues_exactly():
    assert_resumes_exactly(configure())


def test_an_iteration_that_fails_leaves_the_state_as_it_was():
    trainer = Trainer(configure())
    try:
        trainer.run(num_updates=2)
        before = trainer.get_state()

        def fail(_, **__):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.train_once(fail)
        trainer.agent.update = fail
        with pytest.raises(KeyboardInterrupt):
            trainer.train_once()
        after = trainer.get_state()
    finally:
        trainer.close()
    assert {"costs.ended", "cost_value.layers.0.weight"} < set(before)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_the_excess_is_that_of_whole_episodes_in_units_of_a_scaled_step():
    config = configure(scale_returns=True)
    trainer = Trainer(config)
    try:
        rollouts = []
        first = trainer.train_once(rollouts.append).metrics
        second = trainer.train_once(rollouts.append).metrics
        third = trainer.train_once(rollouts.append).metrics
    finally:
        trainer.close()
    costs = [rollout.costs.costs for rollout in rollouts]
    # None has ended yet: those under way count, with their 60 steps.
    assert first["cost/episode_cost"] == pytest.approx(costs[0].sum(0).mean())
    wanted = (first["cost/episode_cost"] - 20.0) / 60 / first["rollout/cost_scale"]
    assert first["cost/excess"] == pytest.approx(wanted)
    assert "rollout/episode_cost_mean" not in first
    # All end after 100 steps, in the second rollout and none in the third.
    whole = (costs[0].sum(0) + costs[1][:40].sum(0)).mean()
    for row in (second, third):
        assert row["cost/episode_cost"] == pytest.approx(whole)
        wanted = (whole - 20.0) / 100 / row["rollout/cost_scale"]
        assert row["cost/excess"] == pytest.approx(wanted)
    assert third["rollout/episode_cost_mean"] == pytest.approx(whole)


def test_the_bound_that_the_limit_is_compared_with_is_standard_errors_above():
    excesses, rollouts = [], []
    for errors in (0.0, 1.5):
        trainer = Trainer(configure(cost_standard_errors=errors, rollout_steps=100))
        try:
            row = trainer.train_once(rollouts.append).metrics
        finally:
            trainer.close()
        excesses.append(row["cost/excess"] * 100 * row["rollout/cost_scale"])
    costs = rollouts[0].costs.costs.sum(0)
    assert len(costs) > 1
    assert costs.std() > 0
    np.testing.assert_array_equal(costs, rollouts[1].costs.costs.sum(0))
    assert excesses[0] == pytest.approx(costs.mean() - 20.0)
    error = costs.std(ddof=1) / np.sqrt(len(costs))
    assert excesses[1] - excesses[0] == pytest.approx(1.5 * error)


def test_cost_advantages_are_centred_and_keep_their_scale():
    config = configure(scale_returns=False, cost_gamma=0.5, cost_lambda=0.0)
    trainer = Trainer(config)
    try:
        rollouts, batches = [], []
        own = CostTraining.batch

        def spy(self, samples, rollout):
            batches.append(own(self, samples, rollout))
            return batches[-1]

        CostTraining.batch = spy
        trainer.train_once(rollouts.append)
    finally:
        CostTraining.batch = own
        trainer.close()
    given, batch = rollouts[0].costs, batches[0]
    # lambda 0: c + gamma V(s') - V(s), and nothing divided.
    one_step = given.costs + 0.5 * given.next_values - given.values
    wanted = (one_step - one_step.mean()).reshape(-1)
    np.testing.assert_allclose(batch.cost_advantages, wanted, atol=1e-12)
    returns = (given.costs + 0.5 * given.next_values).reshape(-1)
    np.testing.assert_allclose(batch.cost_returns, returns, atol=1e-12)
    assert wanted.std() > 0.05


def test_one_command_trains_and_another_says_the_cost(tmp_path, capsys):
    directory = tmp_path / "run"
    options = [
        "--backend=torch", "--cost-limit=20", "--num-envs=4", "--rollout-steps=100",
        "--total-steps=1200", "--eval-episodes=2", "--policy-layer-sizes", "8",
        "--critic-layer-sizes", "8",
    ]  # fmt: skip
    module = f"--module={EXAMPLE}"
    assert main(["train", ENV_ID, f"--run-dir={directory}", module, *options]) == 0
    assert "cost" in capsys.readouterr().out
    rows = read_metrics(directory / "metrics.csv")
    assert set(COST_COLUMNS) <= set(rows[-1])
    saved = json.loads((directory / "evaluation.json").read_text())
    assert len(saved["costs"]) == 2
    assert main(["evaluate", str(directory), "--episodes=2", module]) == 0
    assert f"cost {saved['mean_cost']:.2f} ±" in capsys.readouterr().out
    # Its plot has the cost with its limit.
    (loaded,) = load_runs([directory])
    assert panels_of([loaded])[-1] == COST_PANEL
    cost, limit = (points(loaded, curve)[1] for curve in COST_PANEL.curves)
    assert cost == [row["rollout/episode_cost_mean"] for row in rows]
    assert limit == [20.0] * len(rows)
    titles = [axes.get_title() for axes in draw(load_runs([directory])).axes]
    assert "episode cost" in titles
    # The other backend's agent goes on from it.
    agent, _ = load_agent(directory, backend="jax", modules=[EXAMPLE])
    assert type(agent).__name__ == "ConstrainedTRPOAgent"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recurrent": "gru"}, "`cost_limit`"),
        ({"cost_limit": -1.0}, "`cost_limit`"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(changes, message):
    with pytest.raises(ValueError, match=message):
        Trainer(configure(**changes))


def test_an_environment_without_costs_is_named():
    trainer = Trainer(preset_config("TrpoTest/Counter-v0", cost_limit=1.0, **SETTINGS))
    with pytest.raises(CostError, match="leave `cost_limit` out"):
        trainer.train_once()
    trainer.close()


def test_compiled_training_refuses_a_limit(tmp_path, capsys):
    arguments = ["train", "Pendulum-v1", "--compiled", "--cost-limit=1"]
    assert main([*arguments, f"--run-dir={tmp_path / 'run'}"]) == 2
    assert "`cost_limit`: expected None" in capsys.readouterr().err
