"""Runs of recurrent agents: what they learn, and how they are resumed."""

import numpy as np
import pytest

import tests.support.memory_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS
from tests.support.training_runs import moment_of
from trpo.config.presets import preset_config
from trpo.rollout.evaluation import evaluate
from trpo.runs.directory import RunDirectory, load_agent
from trpo.training.trainer import Trainer


SMALL = {
    "num_envs": 3, "rollout_steps": 7, "recurrent": "gru", "recurrent_size": 5,
    "policy_layer_sizes": (4,), "critic_layer_sizes": (3,), "value_epochs": 2,
    "value_minibatch_size": 14, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_updates():
    """Updates that take less time to compile, and run slower."""
    import jax

    from trpo_jax.agent import agent, update as compiled

    quick = jax.jit(
        compiled.pure_update,
        static_argnums=(0, 1),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent, "update", quick)
        yield


def trainer_of(backend, env_id="TrpoTest/Fading-v0", **changes):
    return Trainer(preset_config(env_id, backend=backend, **(SMALL | changes)))


def test_a_resumed_run_continues_exactly_and_in_the_other_backend(tmp_path):
    backend, other = BACKENDS
    whole, half, resumed = (trainer_of(backend) for _ in range(3))
    whole.run(num_updates=3)
    half.run(num_updates=2)
    directory = RunDirectory(tmp_path / "run")
    directory.save(moment_of(half))
    saved = directory.load()[0].arrays
    assert np.abs(saved["environment.policy_memory"]).max() > 0.01
    assert resumed.set_state(saved) == ()
    resumed.run(num_updates=3)
    left, right = whole.get_state(), resumed.get_state()
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    crossed = trainer_of(other)
    assert crossed.set_state(saved) == ()
    crossed.run(num_updates=3)
    for name, array in crossed.get_state().items():
        if name.startswith(("policy.", "value.", "environment.policy_memory")):
            np.testing.assert_allclose(
                array, left[name], rtol=0, atol=1e-4, err_msg=name
            )


LEARNING = {
    "num_envs": 8, "rollout_steps": 32, "recurrent_size": 8, "gamma": 0.9,
    "policy_layer_sizes": (8,), "critic_layer_sizes": (8,), "target_kl": 0.05,
    "cg_damping": 0.01, "cg_iters": 5, "value_epochs": 2, "value_lr": 3e-3,
    "value_minibatch_size": 64, "normalize_observations": False,
}  # fmt: skip


@pytest.mark.parametrize(("backend", "kind"), [("torch", "lstm"), ("jax", "gru")])
def test_what_was_shown_once_is_recalled_with_choices_and_masks(
    tmp_path, backend, kind
):
    env_id = "TrpoTest/RecallMenu-v0"
    settings = LEARNING | {"backend": backend, "recurrent": kind}
    trainer = Trainer(preset_config(env_id, **settings))
    before = evaluate(trainer.agent, env_id, episodes=40, seed=1).mean
    trainer.run(num_updates=10)
    after = evaluate(trainer.agent, env_id, episodes=40, seed=1).mean
    assert before < 0.6
    assert after == 1.0
    directory = RunDirectory(tmp_path / "run")
    directory.save(moment_of(trainer))
    other = BACKENDS[1 - BACKENDS.index(backend)]
    loaded, _ = load_agent(directory.path, backend=other)
    assert evaluate(loaded, env_id, episodes=40, seed=1).mean == 1.0


def test_nobody_recalls_without_a_memory():
    settings = LEARNING | {"backend": "torch", "recurrent": "none"}
    trainer = Trainer(preset_config("TrpoTest/Recall-v0", **settings))
    trainer.run(num_updates=30)
    returns = evaluate(trainer.agent, "TrpoTest/Recall-v0", episodes=200, seed=1)
    # The answer is one and the same; half of the cues are the other.
    assert abs(returns.mean) < 0.25
    last = np.float32([[0.0, 1.0]])
    actions = [np.asarray(trainer.agent.act(last, True)[0]) for _ in range(5)]
    assert len({float(action[0, 0]) for action in actions}) == 1
