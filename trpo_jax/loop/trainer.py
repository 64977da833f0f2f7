"""The stateful shell round compiled training: members in, metrics and states out."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from trpo.agent.make import make_agent
from trpo.common.random_streams import Purpose, RandomStream, device_key, episode_seed
from trpo.common.user_modules import import_modules
from trpo.config.agent import MEMBERS_OWN, StepNumbers
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.config.support import COMPILED, require_supported
from trpo.data.report import UpdateReport
from trpo.rollout.evaluation import EvaluationResult
from trpo.rollout.transitions import NonFiniteTransitionError
from trpo.spaces.spaces import PolicySpec
from trpo.training.progress import AfterUpdate, Progress, loop_metrics
from trpo.training.python_arguments import PythonArguments
from trpo.training.state import Layout
from trpo_jax.agent.agent import TRPOAgent
from trpo_jax.loop.environment import (
    FunctionalEnvironment,
    functional_environment,
    functional_environment_of,
)
from trpo_jax.loop.iteration import (
    IterationMetrics,
    LoopState,
    Program,
    initial_state,
)
from trpo_jax.loop.program import MEMBERS, Member, mesh_of, run_chunk
from trpo_jax.loop.rollout import Policy
from trpo_jax.loop.state import check_loop_state, loop_state, training_state


ESTIMATES = ("gamma", "gae_lambda")
# Samples that are computed at once; more members than that take turns. It bounds the
# memory: a sample takes some kilobytes in the update.
SAMPLES_AT_ONCE = 2**18
_initial_state = jax.jit(initial_state, static_argnums=0)


def members_at_once(device: Any, samples: int) -> int:
    """Members that are computed together on a device.

    One on a CPU: batched products of small matrices take two to three times as long
    there as the same ones in turn. As many as fit elsewhere.

    Args:
        device: Where.
        samples: Of one member's update.
    """
    return 1 if device.platform == "cpu" else max(1, SAMPLES_AT_ONCE // samples)


class CompiledTrainer:
    """Runs of equal shape trained by one program.

    Args:
        configs: One for each member; they differ in `seed` and `MEMBERS_OWN` alone.
        longest_chunk: Most iterations between two returns to the host.
        episodes: Of an evaluation.
        environment: By default that of the arguments, or of the configurations'
            `env_id`.
        arguments: What else the user gives.

    Raises:
        ValueError: the environment is not functional, or an argument is out of range.
    """

    configs: tuple[TrainConfig, ...]
    environment: FunctionalEnvironment
    program: Program
    update_count: int
    arguments: PythonArguments

    agent = collector = None
    """Of callbacks: there is none on the host."""

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        *,
        longest_chunk: int,
        episodes: int,
        environment: FunctionalEnvironment | None = None,
        arguments: PythonArguments = PythonArguments(),  # noqa: B008 (frozen)
    ) -> None:
        self.arguments = arguments
        self.configs = tuple(configs)
        first = self.configs[0]
        if any(_shared(c) != _shared(first) for c in self.configs):
            raise ValueError(
                "`configs`: expected members that differ in `seed`, "
                f"{', '.join(MEMBERS_OWN)} alone, where those make one program."
            )
        require_supported(COMPILED, first, first.agent, first.callbacks)
        import_modules(first.modules)
        distribution = first.agent.policy_distribution
        if environment is None and arguments.env is not None:
            environment = functional_environment_of(arguments.env, distribution)
        self.environment = environment or functional_environment(
            first.env_id, policy_distribution=distribution
        )
        spec = self.environment.spec
        networks = arguments.policy_network, arguments.value_network
        self.agents = [
            cast(TRPOAgent, make_agent(c, spec, *networks)) for c in self.configs
        ]
        self.program = _program(
            first, len(self.configs), self.environment, self.agents[0]
        )
        self.longest_chunk = longest_chunk
        self._members = self._put([_member(c, episodes) for c in self.configs])
        self._state: LoopState = self._put(
            [
                _initial_state(
                    self.program,
                    agent.backend.state,
                    device_key(config.seed, 1, (config.num_envs,)),
                )
                for agent, config in zip(self.agents, self.configs, strict=True)
            ]
        )
        self.update_count = 0

    @property
    def spec(self) -> PolicySpec:
        """Of the environment's spaces."""
        return self.environment.spec

    @property
    def many(self) -> bool:
        """Whether arrays have the members' axis."""
        return len(self.configs) > 1

    @property
    def step_count(self) -> int:
        """Environment steps done by each member."""
        return self.update_count * self._steps

    @property
    def _steps(self) -> int:
        return self.program.num_envs * self.program.rollout_steps

    def _put(self, trees: Sequence[Any]) -> Any:
        """One tree on the device; of several members, each array [M, …]."""
        tree, mesh = trees[0], self.program.mesh
        if self.many:
            tree = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        if mesh is None:
            return jax.device_put(tree, self.agents[0].device)
        spec = PartitionSpec(MEMBERS) if self.many else PartitionSpec()
        return jax.device_put(tree, NamedSharding(mesh, spec))

    def _of(self, tree: Any, index: int) -> Any:
        """One member's part of a tree of NumPy arrays."""
        return jax.tree.map(lambda leaf: leaf[index], tree) if self.many else tree

    def advance(self, iterations: int, on_rollout: Any = None) -> list[list[Progress]]:
        """Train `iterations` times, at most `longest_chunk`.

        Args:
            iterations: How many times.
            on_rollout: Never called: a compiled rollout stays on the device.

        Returns:
            The progress of each member (outer) and each iteration.

        Raises:
            NonFiniteTransitionError: an environment returned a NaN or an infinity;
                nothing of these iterations is kept.
        """
        assert 0 < iterations <= self.longest_chunk, iterations
        start = time.perf_counter()
        state, metrics, _ = self._run(iterations)
        seconds = time.perf_counter() - start
        self._require_finite(metrics, iterations)
        self._state = state
        speed = len(self.configs) * iterations * self._steps / seconds
        progress = [
            self._progress(metrics, index, iterations, speed)
            for index in range(len(self.configs))
        ]
        self.update_count += iterations
        return progress

    def evaluate(
        self, episodes: int, stop: Any = None, show: Any = None
    ) -> list[EvaluationResult]:
        """Play the first episodes, at most those of the class, with each member.

        Args:
            episodes: How many.
            stop: Never asked: once the program runs, nothing interrupts it.
            show: Never called, likewise.
        """
        scores = self._run(0)[2]
        first = jax.tree.map(lambda leaf: leaf[..., :episodes], scores)
        return [
            EvaluationResult(*self._of(first, index))
            for index in range(len(self.configs))
        ]

    def _run(self, iterations: int) -> tuple[LoopState, IterationMetrics, Any]:
        """Train, or evaluate if not: state, and on the host metrics and scores."""
        state, metrics, scores = run_chunk(
            self.program,
            self._members,
            self._state,
            self._numbers(iterations),
            np.int32(iterations),
            np.bool_(not iterations),
        )
        return state, *jax.device_get((metrics, scores))

    def _numbers(self, iterations: int) -> StepNumbers:
        """Numbers of the next updates, zero beyond these, [chunk] or [chunk, M]."""
        table = np.zeros(
            (self.longest_chunk, len(self.configs), len(StepNumbers._fields))
        )
        for i in range(iterations):
            table[i] = [
                self._numbers_at(c, self.update_count + i) for c in self.configs
            ]
        columns = np.moveaxis(table if self.many else table[:, 0], -1, 0)
        # Estimates are in JAX's default precision, the update in the agent's.
        default, own = jnp.result_type(float), self.program.policy.dtype
        dtypes = (default if n in ESTIMATES else own for n in StepNumbers._fields)
        return StepNumbers(*map(np.ndarray.astype, columns, dtypes))

    def _numbers_at(
        self, config: TrainConfig, update: int, advantage_std: float = math.inf
    ) -> StepNumbers:
        return config.numbers_at(update, advantage_std, self.arguments.schedules)

    def _require_finite(self, metrics: IterationMetrics, iterations: int) -> None:
        bad = np.argwhere(~np.asarray(metrics.finite)[:iterations])
        if len(bad):
            raise NonFiniteTransitionError(
                f"expected finite observations and rewards, whose squares and sums are "
                f"finite too, got others in update "
                f"{self.update_count + int(bad[0][0]) + 1} of "
                f"{self.configs[0].env_id}. The newest checkpoint is from before it. "
                "Look for a division by zero or an unstable simulation there."
            )

    def _progress(
        self, metrics: IterationMetrics, index: int, iterations: int, speed: float
    ) -> list[Progress]:
        rows = []
        for i in range(iterations):
            at = self._of(jax.tree.map(lambda leaf, i=i: leaf[i], metrics), index)
            update, spread = self.update_count + i + 1, float(at.advantage_std)
            row = UpdateReport(*at.report.tolist()).as_metrics() | loop_metrics(
                AfterUpdate(
                    int(at.episodes),
                    (at.episode_return, at.episode_length) if at.episodes else None,
                    at.return_scale,
                    spread,
                    # By the schedule that the program follows too.
                    self._numbers_at(self.configs[index], update - 1, spread),
                    speed,
                )
            )
            rows.append(Progress(update, update * self._steps, row))
        return rows

    def get_state(self, index: int = 0) -> dict[str, np.ndarray]:
        """A member's training state under canonical names; see `compiled_state`."""
        host: LoopState = self._of(jax.device_get(self._state), index)
        return training_state(
            self.agents[index], host, self.update_count * self.program.rollout_steps
        )

    def set_state(self, *states: Mapping[str, np.ndarray]) -> None:
        """Continue from what `get_state` returned of each member.

        Whatever it raises, `get_state` is what it was before.

        Raises:
            ValueError: a state is of another configuration, or the host loop's; names
                the entry.
        """
        if len(states) != len(self.configs):
            raise ValueError(
                f"`states`: expected one of each of {len(self.configs)} members, got "
                f"{len(states)}."
            )
        hosts = jax.device_get(self._state)
        templates = [self._of(hosts, index) for index in range(len(states))]
        checked = [
            check_loop_state(self._layout(index), template, state)
            for index, (template, state) in enumerate(
                zip(templates, states, strict=True)
            )
        ]
        updates = [int(state["training.update"]) for state in checked]
        if len(set(updates)) > 1:
            raise ValueError(
                "`state['training.update']`: expected the same of all members, got "
                f"{updates}."
            )
        before = [agent.snapshot() for agent in self.agents]
        try:
            restored = [
                loop_state(*given)
                for given in zip(self.agents, templates, checked, strict=True)
            ]
            self._state = self._put(restored)
        except BaseException:
            for agent, snapshot in zip(self.agents, before, strict=True):
                agent.restore(snapshot)
            raise
        self.update_count = updates[0]

    def remarks(self) -> list[str]:
        """Nothing beside an evaluation."""
        return []

    def note(self, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What a checkpoint says beside a state."""
        return self.arguments.note(self.configs[0])

    def not_restored(self, note: Mapping[str, Any]) -> list[str]:
        """Nothing: all of a compiled run is in its state."""
        return []

    def close(self) -> None:
        """Nothing is open."""

    def _layout(self, index: int) -> Layout:
        agent, environments = self.agents[index], self._state.environments
        spec, obs = self.environment.spec, environments.obs.dtype.name
        return Layout(self.configs[index], spec, obs, agent.get_state())


def _program(
    config: TrainConfig,
    count: int,
    environment: FunctionalEnvironment,
    agent: TRPOAgent,
) -> Program:
    """What is compiled for so many members."""
    samples = config.num_envs * config.rollout_steps
    mesh = mesh_of(agent.device, count, config.agent, samples)
    return Program(
        policy=Policy(
            environment,
            agent.backend.functions,
            config.agent.matmul_precision,
            config.agent.dtype,
            config.normalize_observations,
            config.observation_clip,
        ),
        options=config.agent.step_options(),
        normalize_advantages=config.agent.normalize_advantages,
        num_envs=config.num_envs,
        rollout_steps=config.rollout_steps,
        scale_returns=config.scale_returns,
        full_radius_advantage_std=config.full_radius_advantage_std,
        members_at_once=members_at_once(agent.device, samples),
        # Whoever names a device by its number has a use for the others.
        mesh=None if ":" in config.device else mesh,
    )


def _shared(config: TrainConfig) -> tuple:
    """The settings that all members share, those of each at their defaults."""
    agent = dataclasses.replace(
        config.agent, **{name: getattr(TRPOConfig, name) for name in MEMBERS_OWN}
    )
    shared = dataclasses.replace(config, seed=0, agent=agent)
    return shared, config.agent.step_options()


def _member(config: TrainConfig, episodes: int) -> Member:
    stream = RandomStream(config.seed, Purpose.EVALUATION_RESET)
    seeds = [episode_seed(stream, env_index=i, episode=0) for i in range(episodes)]
    return Member(
        key=device_key(config.seed),
        evaluation_seeds=np.array(seeds, np.uint32),
    )
