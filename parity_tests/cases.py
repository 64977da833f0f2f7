"""The grid of problems on which the backends are compared, each from a seed.

All numbers are exact in float32, so that a float32 backend's error is arithmetic alone
and not the rounding of its inputs.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from parity_tests.canonical import Arrays, parameter_shapes, round32
from trpo.config import TRPOConfig
from trpo.heads import BERNOULLI, CATEGORICAL, GAUSSIAN, Head
from trpo.noise import Purpose, RandomStream, minibatch_orders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the grid.

    Attributes:
        name: how reports call it.
        why: what it is there to show.
        batch: samples.
        obs_dim: entries of an observation.
        act_dim: entries of an action.
        layers: hidden layers of policy and critic; () is a linear policy, which the
            configuration refuses, so its networks are put in place by hand.
        distribution: over actions, a name in `trpo.heads.FAMILIES`.
        action_sizes: options of each choice, where actions are choices.
        regime: "fresh", "trained", "saturated", "dead_units", "constant_obs",
            "log_std_low", "log_std_high" or "peaked" (probabilities near 0 and 1).
        advantage_scale: factor of the advantages.
        staleness: standard deviation of the noise on the old log-probabilities.
        nearby: relative size of the parameter change whose KL is taken.
        config: fields of `TRPOConfig` that differ from the grid's defaults.
        updates: whether a step can be compared; not where cond(F) exceeds 1/u.
        quick: whether it belongs to the quick selection.
    """

    name: str
    why: str
    batch: int = 33
    obs_dim: int = 5
    act_dim: int = 3
    layers: tuple[int, ...] = (7, 4)
    distribution: str = GAUSSIAN
    action_sizes: tuple[int, ...] = ()
    regime: str = "trained"
    advantage_scale: float = 1.0
    staleness: float = 0.1
    nearby: float = 1e-2
    config: tuple[tuple[str, Any], ...] = ()
    updates: bool = True
    quick: bool = False

    @property
    def head(self) -> Head:
        """The distribution and its sizes."""
        act_dim = len(self.action_sizes) or self.act_dim
        return Head(act_dim, self.distribution, self.action_sizes)

    @property
    def policy_sizes(self) -> tuple[int, ...]:
        """Widths of the policy from input to output."""
        return (self.obs_dim, *self.layers, self.head.output_dim)

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Widths of the critic from input to output."""
        return (self.obs_dim, *self.layers, 1)


GRID = (
    Case(name="trained", why="the plain case", quick=True),
    Case(name="fresh", why="initial weights, fresh log-probs", regime="fresh",
         quick=True),
    Case(name="saturated", why="|tanh| near 1", regime="saturated", quick=True),
    Case(name="single_linear", why="one sample, one number in and out, no hidden layer",
         batch=1, obs_dim=1, act_dim=1, layers=()),
    Case(name="pair", why="two samples", batch=2, obs_dim=3, act_dim=1, layers=(5,)),
    Case(name="log_std_high", why="log_std at and above its clamp",
         regime="log_std_high"),
    Case(name="log_std_low", why="log_std at and below its clamp; cond(F) is e^40",
         regime="log_std_low", updates=False),
    Case(name="stale", why="log-probs of a much older policy", staleness=2.0,
         quick=True),
    Case(name="advantages_1e-6", why="tiny advantages", advantage_scale=1e-6),
    Case(name="advantages_1e6", why="huge advantages", advantage_scale=1e6),
    Case(name="advantages_0", why="all advantages zero: no step", advantage_scale=0.0,
         quick=True),
    Case(name="dead_units", why="singular Fisher: units that nothing reads",
         regime="dead_units"),
    Case(name="constant_obs", why="singular Fisher: one observation, repeated",
         regime="constant_obs", quick=True),
    Case(name="kl_1e-8", why="tiny trust region: differences of 1e-4",
         nearby=1e-4, config=(("target_kl", 1e-8),)),
    Case(name="kl_10", why="a trust region where the quadratic model is wrong",
         config=(("target_kl", 10.0), ("backtrack_coeff", 0.5))),
    Case(name="rejected", why="a line search that runs out of candidates",
         config=(("target_kl", 10.0), ("backtrack_iters", 1), ("cg_damping", 1e-3))),
    Case(name="sgd_hessian", why="SGD with momentum; the Hessian of KL",
         config=(("optimizer_type", "sgd"), ("value_lr", 1e-2),
                 ("fisher_product", "kl_hessian"))),
    Case(name="cheetah", why="HalfCheetah's sizes", batch=2048, obs_dim=17, act_dim=6,
         layers=(64, 48), config=(("value_minibatch_size", 256),)),
    Case(name="deep", why="three layers of unequal width", obs_dim=11, act_dim=2,
         layers=(16, 8, 5), staleness=0.0, config=(("cg_iters", 4),)),
    Case(name="humanoid", why="Humanoid's sizes", batch=256, obs_dim=376, act_dim=17,
         layers=(256, 256, 256), config=(("value_minibatch_size", 100),)),
    Case(name="humanoid_2048", why="Humanoid's sizes and batch", batch=2048,
         obs_dim=376, act_dim=17, layers=(256, 256, 256),
         config=(("value_minibatch_size", 1024), ("value_epochs", 1))),
    Case(name="choices", why="choices of unequal sizes, one of them no choice",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5)),
    Case(name="choices_peaked", why="options of probability near 0 and 1; far policies",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), regime="peaked",
         nearby=0.5),
    Case(name="choices_near", why="a policy so near that KL is 1e-9",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), nearby=1e-4),
    Case(name="cartpole", why="CartPole's sizes, initial weights", batch=512, obs_dim=4,
         layers=(64, 64), distribution=CATEGORICAL, action_sizes=(2,), regime="fresh",
         config=(("value_minibatch_size", 256),)),
    Case(name="switches", why="on or off, four times", act_dim=4,
         distribution=BERNOULLI),
    Case(name="switches_peaked", why="probabilities near 0 and 1; far policies",
         act_dim=4, distribution=BERNOULLI, regime="peaked", nearby=0.5),
)  # fmt: skip

BY_NAME = {case.name: case for case in GRID}

# Every case's own `config` goes over these; few, so that a case takes little time.
DEFAULTS = {"value_minibatch_size": 16, "value_epochs": 3, "cg_iters": 10}


class Problem(NamedTuple):
    """One case with its arrays drawn; float64, each number exact in float32.

    Attributes:
        case: the row of the grid.
        seed: seed of everything drawn.
        config: hyperparameters, but for dtype and layer sizes.
        state: canonical weights and optimiser before the update.
        batch: obs, actions, log_probs, returns, advantages.
        orders: [epochs, N] minibatch orders, as an agent of this seed draws them.
        nearby: canonical weights of a policy a small step away.
        probe: [p] a vector for Fisher products.
        rollout: arrays [T, B] of a rollout for GAE, and raw observations.
    """

    case: Case
    seed: int
    config: TRPOConfig
    state: Arrays
    batch: Arrays
    orders: np.ndarray
    nearby: Arrays
    probe: np.ndarray
    rollout: Arrays


@functools.lru_cache(maxsize=256)
def build(name: str, seed: int = 0) -> Problem:
    """The problem of case `name` and `seed`, always the same one."""
    from parity_tests import reference, reference_distributions

    case = BY_NAME[name]
    index = [row.name for row in GRID].index(name)
    rng = np.random.default_rng([seed, index])
    fields = {**DEFAULTS, **dict(case.config)}
    config = TRPOConfig(**fields)
    state = _weights(rng, case)
    batch = _batch(rng, case)
    at = reference.forward(reference.Network.policy(state), batch["obs"])
    distribution = reference_distributions.of(case.head)
    batch["actions"] = round32(
        distribution.sample(at, case.head.draw_noise(rng, case.batch))
    )
    log_probs = distribution.likelihood(at, batch["actions"]).log_prob
    stale = case.staleness * rng.standard_normal(log_probs.shape)
    batch["log_probs"] = round32(log_probs + stale)
    nearby = {
        name: round32(
            array + case.nearby * (0.2 + abs(array)) * rng.standard_normal(array.shape)
        )
        for name, array in state.items()
        if name.startswith("policy.")
    }
    size = sum(state[name].size for name in nearby)
    state |= _optimizer_state(rng, case, config.optimizer_type)
    stream = RandomStream(seed, Purpose.MINIBATCH)
    orders = minibatch_orders(
        stream.at(0), epochs=config.value_epochs, size=case.batch
    ).copy()
    probe = round32(rng.standard_normal(size))
    return Problem(
        case, seed, config, state, batch, orders, nearby, probe, _rollout(rng, case)
    )


def _weights(rng: np.random.Generator, case: Case) -> Arrays:
    state = {}
    for network, sizes in (
        ("policy", case.policy_sizes),
        ("value", case.critic_sizes),
    ):
        free = network == "policy" and case.head.family.free_log_std
        for name, shape in parameter_shapes(sizes, log_std=free):
            scale = 0.3 if len(shape) == 1 else 1.0 / np.sqrt(shape[1])
            state[f"{network}.{name}"] = scale * rng.standard_normal(shape)
    _bring_to(case, state)
    return {name: round32(array) for name, array in state.items()}


def _bring_to(case: Case, state: Arrays) -> None:
    """Change weights in place to what the case's regime stands for."""
    last = len(case.layers)
    if case.regime == "fresh":
        state[f"policy.layers.{last}.weight"] *= 0.01
        for name in (n for n in state if n.endswith(("bias", "log_std"))):
            state[name] *= 0.0
    elif case.regime == "saturated":
        state["policy.layers.0.weight"] *= 4.0
        state["value.layers.0.weight"] *= 4.0
    elif case.regime == "peaked":
        state[f"policy.layers.{last}.weight"] *= 6.0
    elif case.regime == "dead_units":
        # Nothing reads half of the first layer's units: their weights have Fisher 0.
        state["policy.layers.1.weight"][:, ::2] = 0.0
    elif case.regime == "log_std_high":
        state["policy.log_std"] = np.array([2.0, 2.5, 1.5])
    elif case.regime == "log_std_low":
        state["policy.log_std"] = np.array([-20.0, -25.0, -0.5])
        # With std 2e-9, an action is its mean in float32; the mean has to be exact.
        state[f"policy.layers.{last}.weight"][:2] = 0.0


def _batch(rng: np.random.Generator, case: Case) -> Arrays:
    rows = 1 if case.regime == "constant_obs" else case.batch
    obs = rng.standard_normal((rows, case.obs_dim))
    obs = np.repeat(obs, case.batch // rows, axis=0)
    advantages = case.advantage_scale * (rng.standard_normal((case.batch, 1)) + 0.3)
    returns = 2.0 * rng.standard_normal((case.batch, 1)) + 1.0
    arrays = {"obs": obs, "returns": returns, "advantages": advantages}
    return {name: round32(array) for name, array in arrays.items()}


def _optimizer_state(rng: np.random.Generator, case: Case, kind: str) -> Arrays:
    """The optimiser's state in mid-training, or before its first step when fresh."""
    slots = {"adam": ("first_moment", "second_moment"), "sgd": ("momentum",)}[kind]
    scale = 0.0 if case.regime == "fresh" else 0.1
    state = {}
    for slot in slots:
        for name, shape in parameter_shapes(case.critic_sizes, log_std=False):
            array = round32(scale * rng.standard_normal(shape))
            if slot == "second_moment":
                # At least the first moment's square, as in any real history.
                array = round32(2.0 * array**2 + scale**2)
            state[f"value_optimizer.{slot}.{name}"] = array
    if kind == "adam":
        steps = 0 if case.regime == "fresh" else 7
        state["value_optimizer.step"] = np.array(steps, dtype=np.int64)
    return state


def _rollout(rng: np.random.Generator, case: Case) -> Arrays:
    steps, envs = 12, 3
    terminated = rng.random((steps, envs)) < 0.15
    truncated = ~terminated & (rng.random((steps, envs)) < 0.15)
    # Raw observations far from zero: normalising them has to subtract first.
    offset = 100.0 * rng.standard_normal(case.obs_dim)
    return {
        "obs": round32(rng.standard_normal((steps, envs, case.obs_dim))),
        "next_obs": round32(rng.standard_normal((steps, envs, case.obs_dim))),
        "raw_obs": offset + rng.standard_normal((40, case.obs_dim)),
        "rewards": round32(rng.standard_normal((steps, envs))),
        "terminated": terminated,
        "truncated": truncated,
    }
