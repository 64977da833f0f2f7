"""Oracles of the parts that both backends share: GAE, moments, noise, acting."""

from collections.abc import Callable

import numpy as np

from parity_tests import bridges
from parity_tests.common.tolerances import assert_parity
from parity_tests.problems import cases
from parity_tests.reference import all_stages, networks as reference
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.problem import Problem
from trpo.common.random_streams import Purpose, RandomStream
from trpo.data.advantages import generalized_advantages, normalize_advantages
from trpo.data.normalization import ObservationNormalizer, ReturnScaler


def check_gae() -> None:
    """Advantages against returns summed step by step, whatever ends an episode."""
    rng = np.random.default_rng(5)
    config = cases.build("trained").config
    for chance in (0.0, 0.2, 1.0):
        shape = (15, 4)
        ends = rng.random(shape) < chance
        kind = rng.random(shape) < 0.5
        rollout = {
            "rewards": rng.standard_normal(shape),
            "terminated": ends & kind,
            "truncated": ends & ~kind,
        }
        values, later = rng.standard_normal((2, *shape))
        got, returns = generalized_advantages(
            rollout["rewards"], values, later, rollout["terminated"],
            rollout["truncated"], gamma=config.gamma, gae_lambda=config.gae_lambda,
        )  # fmt: skip
        want = reference.gae(rollout, values, later, config)
        assert_parity("oracle/gae", got, want)
        assert_parity("oracle/gae", returns, want + values)
        scaled = normalize_advantages(got)
        assert_parity("oracle/gae", scaled, (want - want.mean()) / want.std())


def check_normalizer() -> None:
    """Observation moments from parts against all data at once."""
    rng = np.random.default_rng(6)
    obs = 50.0 + 3.0 * rng.standard_normal((60, 4))
    normalizer = ObservationNormalizer(4)
    for part in np.split(obs, [1, 7, 30]):
        before = normalizer.moments.get_state()
        normalizer.normalize(part, np.dtype("float64"))
        after = normalizer.moments.get_state()
        # Looking at an observation is not learning from it.
        assert all(np.array_equal(before[n], after[n]) for n in before)
        normalizer.update(part)
    assert_parity("oracle/moments", normalizer.moments.mean, obs.mean(0))
    assert_parity("oracle/moments", normalizer.moments.std, np.sqrt(obs.var(0) + 1e-8))
    got = normalizer.normalize(obs, np.dtype("float64"))
    assert_parity("oracle/moments", got, all_stages.normalized(obs))
    far = normalizer.normalize(obs + 1e6, np.dtype("float64"))
    assert (far == 10.0).all()


def check_return_scaler() -> None:
    """The reward scale against discounted returns summed from each start."""
    rng = np.random.default_rng(7)
    rewards = rng.standard_normal((20, 3))
    done = rng.random((20, 3)) < 0.2
    scaler = ReturnScaler(3, gamma=0.9)
    scaler.update(rewards, done, np.ones_like(done))
    sums = np.zeros((20, 3))
    for b in range(3):
        for t in range(20):
            start = max([k + 1 for k in range(t) if done[k, b]], default=0)
            sums[t, b] = sum(
                0.9 ** (t - k) * rewards[k, b] for k in range(start, t + 1)
            )
    want = np.sqrt(sums.var() + 1e-8)
    assert_parity("oracle/moments", np.float64(scaler.scale), np.float64(want))


def check_act() -> None:
    """Actions, log-probabilities and values of `act`, in both backends."""
    for name in ("trained", "choices_peaked", "switches_peaked"):
        for framework in bridges.FRAMEWORKS:
            _check_act(framework, cases.build(name))


def check_other_acts() -> None:
    """`act` with the other distributions, and with action masks."""
    for name in ("state_std", "squashed", "masked", "mixed"):
        for framework in bridges.FRAMEWORKS:
            _check_act(framework, cases.build(name))


def _check_act(framework: str, problem: Problem) -> None:
    obs, head = problem.batch["obs"], problem.case.head
    at = reference.forward(problem.policy(), obs)
    value = reference.forward(problem.critic(), obs).output
    distribution, mask = (
        distribution_of_problem(problem),
        problem.batch.get("action_mask"),
    )
    agent = bridges.make_agent(framework, problem, "float64")
    action, log_prob, got = agent.act(obs, deterministic=True, action_mask=mask)
    assert_parity("value", got, value)
    best = distribution.deterministic(at)
    if head.options:
        best_log_prob = best["log_prob"]
        assert_parity(
            "log_prob", log_prob, best_log_prob, np.linalg.norm(best_log_prob) + 1.0
        )
    if head.reals:
        assert_parity("mean", action[:, : head.reals], best["mean"])
    for draw in range(2):
        action, log_prob, _ = agent.act(obs, action_mask=mask)
        draws = head.draw_noise(
            RandomStream(problem.seed, Purpose.ACTION).at(draw), len(obs)
        )
        assert_parity("mean", action, distribution.sample(at, draws))
        want = distribution.likelihood(at, action).log_prob
        assert_parity("log_prob", log_prob, want, np.linalg.norm(want) + 1.0)
    assert int(agent.get_state()["random.action_draws"]) == 2


CHECKS: dict[str, Callable[[], None]] = {
    "GAE": check_gae,
    "observation moments": check_normalizer,
    "return scale": check_return_scaler,
    "act": check_act,
    "act of other distributions": check_other_acts,
}
