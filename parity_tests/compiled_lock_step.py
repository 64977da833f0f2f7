"""The compiled training loop beside the host's, on the same random arrays.

The arrays are the host's own, from `trpo.noise`: what the host's agent draws for its
actions and minibatches goes into the compiled loop as input. Both start from one seed
and then are left alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from parity_tests.functional_vector_env import FunctionalVectorEnv
from trpo.config import TrainConfig
from trpo.noise import Purpose, RandomStream, device_key, minibatch_orders
from trpo.presets import preset_config
from trpo.rollout import RolloutCollector
from trpo.training import Trainer
from trpo.types import Batch, Rates, Rollout
from trpo_jax import compiled_iteration, compiled_rollout
from trpo_jax.compiled_environment import functional_environment
from trpo_jax.compiled_iteration import Hyperparameters
from trpo_jax.compiled_rollout import IterationNoise
from trpo_jax.compiled_run import CompiledTrainer


# Fields that both loops' rollouts have.
FIELDS = (
    "obs",
    "actions",
    "log_probs",
    "values",
    "next_values",
    "rewards",
    "terminated",
    "truncated",
)


class Sides(NamedTuple):
    """One quantity, as the host and as the compiled loop have it."""

    host: np.ndarray
    compiled: np.ndarray

    @property
    def error(self) -> float:
        """Norm of the difference over the host's norm; infinite if not a number."""
        host, compiled = (np.asarray(a, np.float64) for a in self)
        if host.shape != compiled.shape:
            return np.inf
        difference = np.linalg.norm((host - compiled).reshape(-1))
        relative = difference / max(np.linalg.norm(host.reshape(-1)), 1e-300)
        return float(relative) if np.isfinite(relative) else np.inf


Iteration = dict[str, Sides]


def small_config(env_id: str, **overrides: object) -> TrainConfig:
    """A few short iterations in float64, with everything that can be normalised."""
    return preset_config(
        env_id,
        "default",
        **{
            "dtype": "float64",
            "num_envs": 3,
            "rollout_steps": 40,
            "total_steps": 6 * 120,
            "value_lr": 3e-4,
            "value_epochs": 4,
            "value_minibatch_size": 50,
            "policy_layer_sizes": (16, 16),
            "critic_layer_sizes": (16, 16),
            "final_target_kl": 0.002,
            "normalize_observations": True,
            "scale_returns": True,
            **overrides,
        },
    )


def noise_of(config: TrainConfig, head, update: int) -> IterationNoise:
    """The host's own random arrays of one iteration."""
    steps, size = config.rollout_steps, config.num_envs
    actions = RandomStream(config.seed, Purpose.ACTION)
    generator = RandomStream(config.seed, Purpose.MINIBATCH).at(update)
    # Apart from the run's other keys, which have indices 0 and 1.
    keys = device_key(config.seed, 2 + update, (2, steps, size))
    return IterationNoise(
        actions=np.stack(
            [
                head.draw_noise(actions.at(update * steps + t), size)
                for t in range(steps)
            ]
        ),
        transition_keys=keys[0],
        reset_keys=keys[1],
        orders=minibatch_orders(
            generator, epochs=config.agent.value_epochs, size=steps * size
        ),
    )


def _host(config: TrainConfig, limit: int) -> tuple[Trainer, list[IterationNoise]]:
    """The host's trainer on the functional environment, and all its noise."""
    trainer = Trainer(config)
    trainer.close()
    head = trainer.collector.spec.head
    noise = [noise_of(config, head, u) for u in range(config.num_updates)]
    steps = (
        pair
        for arrays in noise
        for pair in zip(arrays.transition_keys, arrays.reset_keys, strict=True)
    )
    environment = functional_environment(config.env_id, limit)
    trainer.env = FunctionalVectorEnv(
        environment.functions,
        limit,
        device_key(config.seed, 1, (config.num_envs,)),
        steps,
    )
    trainer.collector = RolloutCollector(trainer.env)
    return trainer, noise


def _host_iteration(trainer: Trainer, update: int) -> tuple[Rollout, Batch, dict]:
    """What `Trainer.train_once` does, with its parts kept."""
    config = trainer.config
    rollout = trainer.collector.collect(trainer.agent, config.rollout_steps)
    batch = trainer.prepare_batch(rollout)
    metrics = trainer.agent.update(batch, **config.rates_at(update)._asdict())
    trainer.agent.observe(rollout.obs[rollout.valid])
    return rollout, batch, metrics


def compare(config: TrainConfig, max_episode_steps: int) -> Iterator[Iteration]:
    """Both loops side by side; yields every quantity of each iteration."""
    trainer, noise = _host(config, max_episode_steps)
    compiled = CompiledTrainer(
        [config],
        longest_chunk=1,
        episodes=1,
        environment=functional_environment(config.env_id, max_episode_steps),
    )
    program, state = compiled.program, compiled._state
    hyperparameters = Hyperparameters(
        *(np.float64(getattr(config.agent, name)) for name in Hyperparameters._fields)
    )

    # Traced here, so that a fault planted in these modules is in it.
    @jax.jit
    def both(state, rates, arrays):
        _, rollout = compiled_rollout.collect(
            program.policy,
            state.learner,
            state.observation_moments,
            state.environments,
            arrays,
        )
        batch, _, _ = compiled_iteration.prepare_batch(
            program, hyperparameters, state, rollout
        )
        after, metrics = compiled_iteration.iterate(
            program, hyperparameters, state, rates, arrays
        )
        return rollout, batch, after, metrics

    for update, arrays in enumerate(noise):
        rates = Rates(*map(np.float64, config.rates_at(update)))
        rollout, batch, state, metrics = jax.device_get(both(state, rates, arrays))
        host_rollout, host_batch, host_metrics = _host_iteration(trainer, update)
        compiled._state, compiled.update_count = state, update + 1
        yield {
            **_rollouts(host_rollout, rollout),
            **_batches(host_batch, batch),
            "metrics": Sides(
                np.array(list(host_metrics.values())), np.asarray(metrics.report)
            ),
            "episodes": Sides(
                np.array([e.episode_return for e in host_rollout.episodes] + [0.0]),
                np.append(_ended(rollout), 0.0),
            ),
            **_states(trainer, compiled.get_state()),
        }


def _rollouts(host: Rollout, compiled) -> Iteration:
    return {
        f"rollout/{name}": Sides(getattr(host, name), getattr(compiled, name))
        for name in FIELDS
    }


def _batches(host: Batch, compiled: Batch) -> Iteration:
    return {
        f"batch/{name}": Sides(
            getattr(host, name).reshape(-1), getattr(compiled, name).reshape(-1)
        )
        # The host's agent normalises observations itself, in `update`.
        for name in ("actions", "log_probs", "returns", "advantages")
    }


def _ended(rollout) -> np.ndarray:
    done = rollout.terminated | rollout.truncated
    return np.asarray(rollout.episode_return)[np.asarray(done)]


def _states(trainer: Trainer, compiled: dict[str, np.ndarray]) -> Iteration:
    """Weights, optimiser, normaliser, return scaling, counters of random streams."""
    host = trainer.agent.get_state()
    scaler = trainer.return_scaler.get_state()
    host |= {f"return_scaler.{name}": array for name, array in scaler.items()}
    host["environment.obs"] = trainer.collector.obs
    return {
        f"state/{name}": Sides(array, compiled[name]) for name, array in host.items()
    }


def worst(iterations: Iterator[Iteration]) -> dict[str, float]:
    """The largest error of each quantity over all iterations."""
    errors: dict[str, float] = {}
    for iteration in iterations:
        for name, sides in iteration.items():
            errors[name] = max(errors.get(name, 0.0), sides.error)
    return errors


def group(errors: dict[str, float]) -> dict[str, float]:
    """The largest error of each group of quantities."""
    groups: dict[str, float] = {}
    for name, error in errors.items():
        kind = name.partition("/")[0]
        groups[kind] = max(groups.get(kind, 0.0), error)
    return groups
