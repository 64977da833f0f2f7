"""Programs that JAX compiles: as few as options and shapes ask for."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support.agents import ACT_DIM, OBS_DIM, make_agent, make_batch
from trpo.config.agent import TRPOConfig
from trpo.config.presets import preset_config
from trpo.config.step import MEMBERS_OWN, StepNumbers, StepOptions
from trpo_jax.agent.update import act, update


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
        arrays = (trainer._members, trainer._state, trainer._numbers())
        return trainer.program, jax.tree.map(
            lambda leaf: leaf.aval, jax.device_put(arrays)
        )

    assert arguments() == arguments(**{name: value})
