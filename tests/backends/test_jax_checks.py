"""JAX's own checks find nothing: no NaN on the way, no tracer that outlives its trace.

A NaN in a branch that is not taken makes a derivative NaN; a tracer that leaks is state
that a trace has changed.
"""

import jax
import jax.numpy as jnp
import pytest

from trpo.config.presets import preset_config
from trpo.training.trainer import Trainer
from trpo_jax.loop.trainer import CompiledTrainer


CHECKS = {"NaN": lambda: jax.debug_nans(True), "leaks": jax.checking_leaks}
SIZES = {
    "num_envs": 2, "rollout_steps": 16, "total_steps": 64, "eval_episodes": 0,
    "policy_layer_sizes": (8,), "critic_layer_sizes": (8,), "value_epochs": 2,
    "backend": "jax",
}  # fmt: skip
RUNS = {
    "Pendulum-v1": {"entropy_coefficient": 0.01},
    "CartPole-v1": {"fisher_product": "kl_hessian"},
    "Pendulum-v1 recurrent": {"recurrent": "gru", "recurrent_size": 4},
    "Pendulum-v1 squashed": {"policy_distribution": "squashed_gaussian_state_std"},
}


def train(name, settings):
    trainer = Trainer(preset_config(name.split()[0], **SIZES, **settings))
    try:
        trainer.run(lambda progress: None)
    finally:
        trainer.close()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("check", CHECKS)
def test_training_passes(check, name):
    with CHECKS[check]():
        train(name, RUNS[name])


@pytest.mark.parametrize("check", CHECKS)
def test_compiled_training_passes(check):
    configs = [preset_config("phys2d/CartPole-v1", **SIZES, seed=s) for s in (0, 1)]
    with CHECKS[check]():
        trainer = CompiledTrainer(configs, longest_chunk=2, episodes=1)
        trainer.advance(2)
        trainer.evaluate(1)


def test_the_checks_can_fail():
    with CHECKS["NaN"](), pytest.raises(FloatingPointError):
        jax.jit(lambda x: x / x)(jnp.zeros(1)).block_until_ready()
    kept = []

    def keep(x):
        kept.append(x)
        return x

    with CHECKS["leaks"](), pytest.raises(Exception, match="Leaked"):
        jax.jit(keep)(jnp.zeros(1))
