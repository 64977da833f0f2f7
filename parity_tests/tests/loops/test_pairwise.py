"""Training with pairs of options and every kind of row, against a reference and itself.

A run of each row of `ROWS`, in float64: what its updates are given is what a reference
makes of the environments' own log; resumed twice it ends in the same bits, and divided
over ranks in the same numbers. So does, from its first update on, the other backend, of
rows that have each value once.
"""

import functools
import itertools
from unittest import mock

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from parity_tests.problems import scripted
from parity_tests.problems.pairwise import covering, pairwise
from parity_tests.reference import training as reference
from parity_tests.rings.rank_threads import ThreadRanks, run_ranks
from trpo.config.presets import preset_config
from trpo.training import trainer as training
from trpo_torch.devices import reduction


UPDATES, STEPS, ENVS = 3, 13, 3
MODES = {
    "same step": AutoresetMode.SAME_STEP,
    "next step": AutoresetMode.NEXT_STEP,
    "disabled": AutoresetMode.DISABLED,
}
KINDS = {
    "reals": {},
    "masked": {},
    "gru": {"recurrent": "gru", "recurrent_size": 3},
    "lstm": {"recurrent": "lstm", "recurrent_size": 2},
    "costs": {
        "cost_limit": 4.0, "cost_gamma": 0.8, "cost_lambda": 0.6,
        "cost_standard_errors": 0.5,
    },
}  # fmt: skip
SCHEDULES = {
    "constant": {},
    "falling": {"final_target_kl": 0.004, "final_value_lr": 2e-4},
}
OPTIONS = {
    "kind": tuple(KINDS),
    "fate": tuple(scripted.FATES),
    "mode": tuple(MODES),
    "schedule": tuple(SCHEDULES),
    "value_minibatch_size": (20, 0),
    "fisher_every": (1, 3),
    "batch_chunk_size": (None, 7),
    "scaled": (True, False),
    "optimizer_type": ("adam", "sgd"),
    "line_search": ("sequential", "none"),
}  # fmt: skip


def allowed(row):
    plain = row["kind"] in ("reals", "masked")
    return (
        # Workers begin the next episode in the same step.
        (row["fate"] != "lost" or row["mode"] == "same step")
        and (plain or row["batch_chunk_size"] is None)
        and (row["kind"] not in ("gru", "lstm") or row["fisher_every"] == 1)
    )


ROWS = pairwise(OPTIONS, allowed)
# JAX compiles a program for each of them, and for each size of a batch.
IN_JAX = covering(ROWS)


def config_of(row, backend):
    named = {
        name: row[name]
        for name in (
            "value_minibatch_size", "fisher_every", "batch_chunk_size",
            "optimizer_type", "line_search",
        )
    }  # fmt: skip
    return preset_config(
        "Scripted", "default", backend=backend, seed=5, num_envs=ENVS,
        rollout_steps=STEPS, total_steps=UPDATES * STEPS * ENVS, dtype="float64",
        policy_layer_sizes=(4,), critic_layer_sizes=(3,), value_epochs=2,
        value_lr=1e-3, target_kl=0.02, gamma=0.9, gae_lambda=0.7, cg_iters=4,
        on_bad_data="drop", normalize_observations=row["scaled"],
        scale_returns=row["scaled"], **named, **KINDS[row["kind"]],
        **SCHEDULES[row["schedule"]],
    )  # fmt: skip


def trainer_of(row, log, backend="torch", **options):
    """A trainer on the environments that the row says, which write to `log`."""
    masked, costs = row["kind"] == "masked", row["kind"] == "costs"
    spoilt = ("obs", "reward", "cost")[: 2 + costs]
    env = functools.partial(
        scripted.Scripted, log, masked, scripted.FATES[row["fate"]], spoilt
    )
    vector = scripted.vector_maker(MODES[row["mode"]], row["fate"] == "lost")
    with mock.patch.object(training, "make_vector_environment", vector):
        return training.Trainer(config_of(row, backend), env=env, **options)


def finished(trainer, num_updates=UPDATES):
    trainer.run(num_updates=num_updates)
    return trainer.get_state()


def assert_near(found, wanted, bound, names=""):
    assert set(found) == set(wanted)
    for name in wanted:
        if name.startswith(names):
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=bound, atol=bound, err_msg=name
            )


def label(row):
    return "-".join(str(value) for value in row.values()).replace(" ", "_")


@pytest.fixture(scope="module", params=ROWS, ids=label)
def row(request):
    return request.param


@functools.lru_cache(maxsize=1)
def _trained(key):
    row, log = dict(key), {}
    trainer = trainer_of(row, log)
    updates, rollouts, metrics, states = [], [], [], []
    update = trainer.agent.update

    def recorded(batch, **rates):
        # Before it learns: its values are those of the rollout.
        updates.append((batch, rates, asked(trainer, rollouts[-1])))
        return update(batch, **rates)

    def asked(trainer, rollout):
        def lines():
            between = MODES[row["mode"]] == AutoresetMode.NEXT_STEP
            return reference.timelines(log, trainer.config, int(between))

        wanted = reference.expected(lines(), trainer.config, trainer.update_count)
        agent = trainer.agent
        values = reference.values_of(agent, rollout, "value", wanted.kept)
        of_costs = None
        if row["kind"] == "costs":
            of_costs = reference.values_of(agent, rollout, "cost_value", wanted.kept)
        return wanted, values, of_costs

    trainer.agent.update = recorded
    for _ in range(UPDATES):
        metrics.append(trainer.train_once(rollouts.append).metrics)
        states.append(trainer.get_state())
    between = MODES[row["mode"]] == AutoresetMode.NEXT_STEP
    lines = reference.timelines(log, trainer.config, int(between))
    return trainer.config, lines, updates, rollouts, metrics, states


@pytest.fixture(scope="module")
def trained(row):
    """Of a run: configuration, timelines; updates, rollouts, metrics and states."""
    return _trained(tuple(row.items()))


def column(batch, name, valid):
    array = getattr(batch, name)
    return array if valid is None else array[valid]


def test_updates_are_given_what_the_environments_have_seen(row, trained):
    config, _, updates, rollouts, metrics, states = trained
    agent = config.agent
    scale, cost_scale = reference.Scale(agent.gamma), reference.Scale(agent.cost_gamma)
    for number, (batch, rates, (wanted, values, of_costs)) in enumerate(updates):
        kept = wanted.kept
        valid = None
        if row["kind"] in ("gru", "lstm"):
            valid = batch.valid
            starts = [s.step.index == 0 for s in kept]
            np.testing.assert_array_equal(batch.starts[valid], starts)
        episodes = [(s.step.episode, s.step.index) for s in kept]
        obs = column(batch, "obs", valid)
        np.testing.assert_array_equal(obs, [e.obs[i] for e, i in episodes])
        actions = column(batch, "actions", valid)
        if row["kind"] == "masked":
            sent = [[e.actions[i] - scripted.START] for e, i in episodes]
            masks = [e.masks[i] for e, i in episodes]
            np.testing.assert_array_equal(batch.action_mask, masks)
            np.testing.assert_array_equal(actions, sent)
        else:
            sent = np.array([e.actions[i] for e, i in episodes])
            np.testing.assert_array_equal(np.clip(actions, -0.5, 0.75), sent)
        divisor = scale.add(kept, "rewards") if row["scaled"] else 1.0
        found = reference.estimates(
            kept, reference.raw(kept, "rewards", divisor), *values,
            agent.gamma, agent.gae_lambda,
        )  # fmt: skip
        close = {"rtol": 1e-9, "atol": 1e-9}
        returns = column(batch, "returns", valid)
        np.testing.assert_allclose(returns, found.returns, **close)
        deviation = found.advantages.std()
        normalized = (found.advantages - found.advantages.mean()) / deviation
        advantages = column(batch, "advantages", valid)
        np.testing.assert_allclose(advantages, normalized, **close)
        if of_costs is not None:
            divisor = cost_scale.add(kept, "costs") if row["scaled"] else 1.0
            found = reference.estimates(
                kept, reference.raw(kept, "costs", divisor), *of_costs,
                agent.cost_gamma, agent.cost_lambda,
            )  # fmt: skip
            np.testing.assert_allclose(batch.cost_returns, found.returns, **close)
            centred = found.advantages - found.advantages.mean()
            np.testing.assert_allclose(batch.cost_advantages, centred, **close)
            excess = excess_of(updates[: number + 1], states[number], config) / divisor
            assert float(batch.cost_excess) == pytest.approx(excess, rel=1e-9)
        told = metrics[number]
        assert told["rollout/advantage_std"] == pytest.approx(deviation, rel=1e-9)
        assert told["rollout/dropped_steps"] == wanted.dropped
        assert told["rollout/environment_restarts"] == wanted.lost
        share = number / (UPDATES - 1) if row["schedule"] == "falling" else 0.0
        assert rates["target_kl"] == pytest.approx(0.02 + share * (0.004 - 0.02))
        assert rates["value_lr"] == pytest.approx(1e-3 + share * (2e-4 - 1e-3))
        masks, valid = rollouts[number].action_masks, rollouts[number].valid
        if masks is not None and row["fate"] == "none":
            # Anything can be "done" where an environment only resets.
            assert masks[~valid].all()
    # Rows of each kind there were.
    assert sum(w.dropped for *_, (w, *_) in updates) >= 9 * (row["fate"] == "bad")
    assert sum(w.lost for *_, (w, *_) in updates) >= 3 * (row["fate"] == "lost")


def excess_of(updates, state, config):
    """Beyond the limit, of episodes of the newest rollout in which any ended."""
    ended = [w.ended for *_, (w, *_) in updates if w.ended]
    assert ended, "in each row's first rollout some episodes end"
    costs = [episode[2] for episode in ended[-1]]
    lengths = [episode[1] for episode in ended[-1]]
    error = np.std(costs, ddof=1) / len(costs) ** 0.5 if len(costs) > 1 else 0.0
    agent = config.agent
    bound = np.mean(costs) + agent.cost_standard_errors * error
    return (bound - agent.cost_limit) / np.mean(lengths)


def test_statistics_are_of_what_was_learned_from(row, trained):
    _, lines, updates, _, metrics, states = trained
    ended, seen = [], []
    for number, (_, _, (wanted, *_)) in enumerate(updates):
        state, told = states[number], metrics[number]
        ended += wanted.ended
        seen += [s.step.episode.obs[s.step.index] for s in wanted.kept]
        assert state["training.episodes"] == len(ended) == told["rollout/episodes"]
        pairs = np.array([episode[:2] for episode in ended])
        np.testing.assert_allclose(state["training.recent_episodes"], pairs)
        means = pairs.mean(0)
        assert told["rollout/episode_return_mean"] == pytest.approx(means[0])
        assert told["rollout/episode_length_mean"] == pytest.approx(means[1])
        successes = [float(episode[3]) for episode in ended]
        assert told["rollout/success_rate"] == pytest.approx(np.mean(successes))
        np.testing.assert_array_equal(state["training.recent_successes"], successes)
        if row["kind"] == "costs":
            costs = [episode[2] for episode in ended]
            np.testing.assert_allclose(state["costs.recent_episodes"], costs)
        if row["scaled"]:
            moments = [state[f"observation_normalizer.{n}"] for n in ("count", "mean")]
            assert moments[0] == len(seen)
            np.testing.assert_allclose(moments[1], np.mean(seen, 0), rtol=1e-12)
            deviations = state["observation_normalizer.squared_deviations"]
            np.testing.assert_allclose(deviations, np.var(seen, 0) * len(seen))
            assert state["return_scaler.count"] == len(seen)
        opened = zip(*reference.open_episodes(lines, (number + 1) * STEPS), strict=True)
        names = ("episode", "episode_return", "episode_length", "episode_cost")
        for name, numbers in zip(names, opened, strict=True):
            if name != "episode_cost" or row["kind"] == "costs":
                np.testing.assert_allclose(
                    state[f"environment.{name}"], numbers, atol=1e-12, err_msg=name
                )


def test_a_run_that_is_resumed_twice_ends_in_the_same_bits(row, trained):
    *_, states = trained
    if row["mode"] != "same step":
        pytest.skip("a run's own vectors reset in the same step, and are resumed alone")
    resumed = trainer_of(row, {})
    assert resumed.set_state(states[0]) == ()
    # At once, and after an update.
    assert_near(resumed.get_state(), states[0], 0.0)
    resumed.run(num_updates=2)
    again = trainer_of(row, {})
    assert again.set_state(resumed.get_state()) == ()
    assert_near(finished(again), states[-1], 0.0)
    # What has gone on goes back too, to open episodes of whatever lengths.
    for state in reversed(states):
        assert again.set_state(state) == ()
        assert_near(again.get_state(), state, 0.0)


def test_many_ranks_train_as_one(row, trained, monkeypatch):
    *_, states = trained

    def all_reduce(tensor):
        ThreadRanks.local.ranks.all_reduce(tensor)

    def of_rank(ranks):
        ranks.local.ranks = ranks
        trainer = trainer_of(row, {}, ranks=ranks)
        if row["mode"] == "same step":
            assert trainer.set_state(states[0]) == ()
        return finished(trainer, 2)

    monkeypatch.setattr(reduction.distributed, "all_reduce", all_reduce)
    for state in run_ranks(2, of_rank):
        assert_near(state, states[1], 1e-8)


@pytest.mark.parametrize("row", IN_JAX, ids=label)
def test_the_other_backend_learns_the_same(row):
    *_, states = _trained(tuple(row.items()))
    trainer = trainer_of(row, {}, "jax")
    if row["mode"] == "same step":
        assert trainer.set_state(states[0]) == ()
    number = trainer.update_count
    assert_near(finished(trainer, number + 1), states[number], 1e-8)


def test_each_pair_of_values_has_a_row():
    names = list(itertools.combinations(OPTIONS, 2))
    seen = {(a, row[a], b, row[b]) for row in ROWS for a, b in names}
    whole = itertools.product(*OPTIONS.values())
    rows = (dict(zip(OPTIONS, values, strict=True)) for values in whole)
    wanted = {(a, r[a], b, r[b]) for r in rows if allowed(r) for a, b in names}
    assert seen == wanted
    # As few as the two longest options need, and some more.
    least = len(KINDS) * len(scripted.FATES)
    assert least <= len(ROWS) <= least + 5
    in_jax = {item for row in IN_JAX for item in row.items()}
    assert in_jax == {(name, value) for name in OPTIONS for value in OPTIONS[name]}
