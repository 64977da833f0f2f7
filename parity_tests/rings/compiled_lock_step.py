"""The compiled training loop compared with the host's, on the same random arrays.

The host's agent draws the arrays for its actions and minibatches from
`trpo.common.random_streams`; the compiled loop gets the same arrays as input. Both
start from one seed and are not synchronised afterwards.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from parity_tests.common.process_setup import QUICK
from parity_tests.problems.functional_vector_env import FunctionalVectorEnv
from trpo.common.random_streams import (
    Purpose,
    RandomStream,
    device_key,
    minibatch_orders,
)
from trpo.config.agent import StepNumbers
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.data.batch import Batch
from trpo.data.rollout import Rollout
from trpo.rollout.collector import RolloutCollector
from trpo.training.trainer import Trainer
from trpo_jax.loop import iteration as compiled_iteration, rollout as compiled_rollout
from trpo_jax.loop.environment import functional_environment
from trpo_jax.loop.rollout import IterationNoise
from trpo_jax.loop.trainer import CompiledTrainer


# Fields that both loops' rollouts have.
FIELDS = (
    "obs",
    "actions",
    "log_probs",
    "values",
    "rewards",
    "terminated",
    "truncated",
)


class HostAndCompiled(NamedTuple):
    """One quantity in the host's loop and in the compiled one."""

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


Iteration = dict[str, HostAndCompiled]


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
            # Compiling takes most of the time: no last minibatch of another size.
            "value_minibatch_size": 60,
            "policy_layer_sizes": (16,),
            "critic_layer_sizes": (16,),
            "final_target_kl": 0.002,
            # Above what advantages deviate by in the first iterations.
            "full_radius_advantage_std": 2.0,
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
        keys
        for arrays in noise
        for keys in zip(arrays.transition_keys, arrays.reset_keys, strict=True)
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


class _Trainers:
    """The host's trainer and the compiled one for one configuration, before the run."""

    def __init__(self, config: TrainConfig, max_episode_steps: int) -> None:
        self.host, self.noise = _host(config, max_episode_steps)
        self.compiled = CompiledTrainer(
            [config],
            longest_chunk=1,
            episodes=1,
            environment=functional_environment(config.env_id, max_episode_steps),
        )

    def numbers(self, update: int, advantage_std: float = math.inf) -> StepNumbers:
        """Of one update, by the schedule."""
        numbers = self.compiled.configs[0].numbers_at(update, advantage_std)
        return StepNumbers(*map(np.float64, numbers))


def compare(config: TrainConfig, max_episode_steps: int) -> Iterator[Iteration]:
    """Run both loops; yields every quantity of each iteration."""
    trainers = _Trainers(config, max_episode_steps)
    host, compiled = trainers.host, trainers.compiled
    program, state = compiled.program, compiled._state
    iterate = jax.jit(
        compiled_iteration.iterate, static_argnums=0, compiler_options=QUICK
    )
    for update, arrays in enumerate(trainers.noise):
        state, metrics, rollout, batch = jax.device_get(
            iterate(program, trainers.numbers(update), state, arrays)
        )
        compiled._state, compiled.update_count = state, update + 1
        # What `Trainer.train_once` does, with its parts kept.
        host_rollout = host.collector.collect(host.agent, config.rollout_steps)
        prepared = host.prepare_batch(host_rollout)
        host_batch = _normalized(host, prepared.batch)
        numbers = trainers.numbers(update, prepared.advantage_std)
        host_metrics = host.agent.update(
            host_batch._replace(obs=host_rollout.obs[host_rollout.valid]),
            target_kl=numbers.target_kl,
            value_lr=numbers.value_lr,
        )
        host.agent.observe(host_rollout.obs[host_rollout.valid])
        yield {
            **_rollouts(host_rollout, rollout),
            **_batches(host_batch, batch),
            "metrics": HostAndCompiled(
                np.array(list(host_metrics.values())), np.asarray(metrics.report)
            ),
            "advantage_std": HostAndCompiled(
                np.array([prepared.advantage_std]), np.asarray([metrics.advantage_std])
            ),
            **_states(host, compiled.get_state()),
        }


def first_batch(config: TrainConfig, max_episode_steps: int) -> Iteration:
    """Rollout and batch of the first iteration, which compile in a second or two.

    Each call traces it again, so that faults planted in its modules take effect.
    """
    trainers = _Trainers(config, max_episode_steps)
    program, state = trainers.compiled.program, trainers.compiled._state

    @jax.jit
    def collect_and_prepare(numbers, state, arrays):
        _, rollout = compiled_rollout.collect(
            program.policy,
            state.learner,
            state.observation_moments,
            state.environments,
            arrays,
        )
        prepared = compiled_iteration.prepare_batch(program, numbers, state, rollout)
        return rollout, prepared.batch

    rollout, batch = jax.device_get(
        collect_and_prepare(trainers.numbers(0), state, trainers.noise[0])
    )
    host = trainers.host
    host_rollout = host.collector.collect(host.agent, config.rollout_steps)
    host_batch = _normalized(host, host.prepare_batch(host_rollout).batch)
    return {**_rollouts(host_rollout, rollout), **_batches(host_batch, batch)}


def _normalized(host: Trainer, batch: Batch) -> Batch:
    """The batch with observations as the networks get them: the agent does that."""
    normalizer = host.agent.observation_normalizer
    assert normalizer is not None
    return batch._replace(obs=normalizer.normalize(batch.obs, np.dtype("float64")))


def _rollouts(host: Rollout, compiled) -> Iteration:
    fields = {
        f"rollout/{name}": HostAndCompiled(getattr(host, name), getattr(compiled, name))
        for name in FIELDS
    }
    # A terminal state has no value: whatever stands there is not read.
    live = ~host.terminated
    next_values = HostAndCompiled(host.next_values * live, compiled.next_values * live)
    # The environments' own sum of rewards, where episodes end.
    done = np.asarray(compiled.terminated | compiled.truncated)
    returns = HostAndCompiled(
        np.array([episode.episode_return for episode in host.episodes]),
        np.asarray(compiled.episode_return)[done],
    )
    return {
        **fields,
        "rollout/next_values": next_values,
        "rollout/episode_returns": returns,
    }


def _batches(host: Batch, compiled: Batch) -> Iteration:
    return {
        f"batch/{name}": HostAndCompiled(
            getattr(host, name).reshape(-1), getattr(compiled, name).reshape(-1)
        )
        for name in Batch._fields
        if name not in ("action_mask", "weights")  # Both have none.
    }


def _states(trainer: Trainer, compiled: dict[str, np.ndarray]) -> Iteration:
    """Weights, optimiser, normaliser, return scaling, counters of random streams."""
    host = trainer.agent.get_state()
    scaler = trainer.return_scaler.get_state()
    host |= {f"return_scaler.{name}": array for name, array in scaler.items()}
    host["environment.obs"] = trainer.collector.obs
    return {
        f"state/{name}": HostAndCompiled(array, compiled[name])
        for name, array in host.items()
    }


def worst(iterations: Iterable[Iteration]) -> dict[str, float]:
    """The largest error of each quantity over all iterations."""
    errors: dict[str, float] = {}
    for iteration in iterations:
        for name, values in iteration.items():
            errors[name] = max(errors.get(name, 0.0), values.error)
    return errors


def group(errors: dict[str, float]) -> dict[str, float]:
    """The largest error of each group of quantities."""
    groups: dict[str, float] = {}
    for name, error in errors.items():
        kind = name.partition("/")[0]
        groups[kind] = max(groups.get(kind, 0.0), error)
    return groups
