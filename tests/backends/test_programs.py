"""Programs that JAX compiles: as few as options and shapes ask for."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.agents import ACT_DIM, OBS_DIM, make_agent, make_batch
from trpo.config.agent import MEMBERS_OWN, StepNumbers, StepOptions, TRPOConfig
from trpo.config.presets import preset_config
from trpo.data.batch import Batch
from trpo_jax.agent.update import act, pure_update, update


# Two values of each number; and what else makes no other program.
OTHERS = {
    "target_kl": 0.003, "value_lr": 1e-3, "gamma": 0.9, "gae_lambda": 0.8,
    "cg_damping": 0.01, "cg_residual_tol": 1e-6, "backtrack_coeff": 0.5,
    "entropy_coefficient": 0.02, "max_grad_norm": 0.1, "sgd_momentum": 0.5,
    "initial_log_std": -0.5,
}  # fmt: skip
BASE = {"entropy_coefficient": 0.01, "optimizer_type": "sgd"}


def programs():
    return np.array([function._cache_size() for function in (update, act)])


def update_once(**changes):
    agent = make_agent("jax", **changes)
    batch = make_batch(agent)
    return agent.update(batch)


def test_agents_that_differ_in_numbers_share_their_programs():
    assert set(OTHERS) == set(MEMBERS_OWN)
    first = update_once(**BASE)
    before = programs()
    others = [{name: value} for name, value in OTHERS.items()]
    others += [
        {"initialization": "torch"},
        {"seed": 1},
        {"normalize_advantages": False},
    ]
    found = {}
    for change in others:
        found.update(dict.fromkeys(change, update_once(**BASE | change)))
    assert (programs() == before).all()
    # But those that enter before an update; and of the search, as none was needed.
    same = {name for name, metrics in found.items() if metrics == first}
    assert same == {"gamma", "gae_lambda", "normalize_advantages", "backtrack_coeff"}


def test_numbers_are_arrays_and_options_can_be_hashed():
    config = TRPOConfig()
    assert {type(number) for number in config.step_numbers()} == {float}
    assert hash(config.step_options()) == hash(TRPOConfig(gamma=0.5).step_options())
    fields = set(vars(config))
    assert set(StepNumbers._fields) < fields
    assert set(StepOptions._fields) - fields == {"with_entropy", "with_momentum"}


class Network(nnx.Module):
    def __init__(self, outputs, seed):
        self.first = nnx.Linear(OBS_DIM, 4, rngs=nnx.Rngs(seed))
        self.last = nnx.Linear(4, outputs, rngs=nnx.Rngs(seed + 1))

    def __call__(self, obs):
        return self.last(jax.nn.softplus(self.first(obs)))


# The constructor wants sizes.
@pytest.mark.filterwarnings("ignore:.*not used, as a network of your own")
def test_agents_of_one_user_network_share_their_programs():
    counts, kls = [], set()
    for seed in range(3):
        networks = {"policy_network": Network(ACT_DIM, seed)}
        kls.add(update_once(**networks, value_network=Network(1, seed))["policy/kl"])
        counts.append(programs())
    assert len(kls) == 3
    assert (counts[1] == counts[0]).all()
    assert (counts[2] == counts[0]).all()


@pytest.mark.parametrize(("name", "value"), OTHERS.items())
def test_compiled_runs_that_differ_in_numbers_share_their_program(name, value):
    from trpo_jax.loop.trainer import CompiledTrainer

    def arguments(**changes):
        small = {"num_envs": 2, "rollout_steps": 4, "policy_layer_sizes": (3,)}
        config = preset_config("phys2d/CartPole-v1", **small, **BASE | changes)
        trainer = CompiledTrainer([config], longest_chunk=2, episodes=1)
        arrays = (trainer._members, trainer._state, trainer._numbers(2))
        return trainer.program, jax.tree.map(
            lambda leaf: leaf.aval, jax.device_put(arrays)
        )

    assert arguments() == arguments(**{name: value})


# Compiling the default update takes 3.5 times what compiling `fixed_program` does.
MOST_TIMES_THE_FIXED = 5.0


def fixed_program(weight, obs):
    def loss(weight):
        x = obs
        for _ in range(6):
            x = jnp.tanh(x @ weight)
        return (x**2).mean()

    for end in range(1, 7):
        _, weight = jax.lax.while_loop(
            lambda at, end=end: at[0] < end,
            lambda at: (at[0] + 1, at[1] - 0.1 * jax.grad(loss)(at[1])),
            (0, weight),
        )
    return weight


def compile_seconds(function, *arguments):
    """Of all processors, so that others' work counts for little."""
    jax.clear_caches()
    lowered = jax.jit(lambda *given: function(*given)).lower(*arguments)
    start = time.process_time()
    lowered.compile()
    return time.process_time() - start


def test_the_default_update_compiles_within_its_budget():
    sizes = {"policy_layer_sizes": (64, 64), "critic_layer_sizes": (64, 64)}
    agent = make_agent("jax", **sizes, value_epochs=10, value_minibatch_size=256)
    column = np.zeros((2048, 1), np.float32)
    batch = Batch(column.repeat(OBS_DIM, 1), column.repeat(ACT_DIM, 1), *[column] * 3)
    static = (agent.backend.functions, agent.config.step_options())
    numbers = agent.backend.in_dtype_of(agent.config.step_numbers())
    orders = np.tile(np.arange(2048, dtype=np.int32), (10, 1))

    def once(state, batch, *others):
        return pure_update(*static, state, batch, *others)

    def twice(state, batch, *others):
        other = batch._replace(obs=batch.obs + 1.0)
        return once(once(state, batch, *others)[0], other, *others)

    at = (agent.backend.state, batch, orders, numbers)
    fixed = (np.zeros((16, 16), np.float32), np.zeros((32, 16), np.float32))
    programs = ((fixed_program, fixed), (once, at), (twice, at))
    least = [np.inf] * len(programs)
    # The least of several: a busy machine makes one of them longer.
    for _ in range(8):
        for i, (function, given) in enumerate(programs):
            least[i] = min(least[i], compile_seconds(function, *given))
        unit, whole, doubled = least
        if whole < MOST_TIMES_THE_FIXED * unit < doubled:
            break
    assert whole <= MOST_TIMES_THE_FIXED * unit, (whole, unit)
    # A program of twice the size would be seen.
    assert doubled > MOST_TIMES_THE_FIXED * unit, (doubled, unit)
