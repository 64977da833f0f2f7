"""The half of an agent that knows no framework: checks, randomness, state's naming.

An agent has a backend, which computes, and a state, all of it that changes. Each
backend's `TRPOAgent` is `AgentBase` with a `backend_type`.
"""

import dataclasses
import functools
import hashlib
import inspect
import re
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, TypeVar, Unpack, cast

import numpy as np
from gymnasium import Space

from trpo.agent.backend import Backend
from trpo.agent.batch_checks import (
    action_bounds,
    as_rows,
    batch_fields,
    largest_observation,
    real_array,
    require_finite,
    require_shape,
)
from trpo.agent.host_policy import HostPolicy, acts_here
from trpo.agent.saved import Copies
from trpo.agent.sharding import Sharding
from trpo.agent.state import AgentState, Snapshot
from trpo.common.random_streams import Purpose
from trpo.common.validation import (
    require_count,
    require_positive,
    require_seed,
    section,
)
from trpo.config.agent import FIELD_TEXTS
from trpo.config.options import AgentOptions, SpacesOptions
from trpo.config.run import TRPOConfig
from trpo.config.support import (
    CONSTRAINED,
    CUSTOM,
    RECURRENT,
    require_supported,
)
from trpo.data.batch import AnyBatch, Batch
from trpo.data.normalization import ObservationNormalizer
from trpo.data.report import StepStatus
from trpo.distributed.ranks import ALONE, Alone
from trpo.spaces.action_heads import GAUSSIAN, Head
from trpo.spaces.architecture import NONE, Image, check_images
from trpo.spaces.initialization import initial_weights
from trpo.spaces.observations import flattened
from trpo.spaces.spaces import PolicySpec, policy_spec, require_single
from trpo.spaces.user_networks import CustomNetworks


NO_SETTINGS = "seed", "normalize_observations", "observation_clip"
"""Arguments of an agent that are no fields of `TRPOConfig`."""
UNCENTRED = 0.5
"""Share of their standard deviation that the mean of normalised advantages is below."""
_Method = TypeVar("_Method", bound=Callable[..., Any])


def exclusive(method: _Method) -> _Method:
    """A method that has its agent to itself, and the framework as the agent is set.

    Another thread waits for it; the process's own settings are left as they were.
    """

    @functools.wraps(method)
    def call(agent: "AgentBase", *arguments: Any, **options: Any) -> Any:
        backend = agent.backend
        with agent._lock, backend.own_settings():
            return backend.untraced(method)(agent, *arguments, **options)

    return cast(_Method, call)


class AgentBase(Copies):
    """A TRPO agent; by default of a diagonal Gaussian over continuous actions.

    `for_spaces` builds one for the spaces of an environment, discrete ones included.

    Args:
        obs_dim: Entries of an observation.
        act_dim: Entries of an action.
        action_low: Lower bounds of the environment's actions, [act_dim] or a number.
        action_high: Upper bounds, likewise. The agent's actions are neither clipped nor
            squashed: who steps the environment sends what `spec.to_environment` makes
            of them, and stores the action as sampled.
        device: Device of the framework, as its own object or a name such as "cuda:0".
        policy_layer_sizes: See `trpo.config.run.TRPOConfig`, as for all that follow;
            `gamma`, `gae_lambda` and `normalize_advantages` are the training loop's.
        seed: Seed of initial weights and of every random stream.
        normalize_observations: Keep running statistics of what `observe` is given and
            normalise observations by them in `act`, `value` and `update`.
        observation_clip: Bound of normalised observations.
        distribution: Over actions, one of `trpo.spaces.action_heads.FAMILIES`.
        action_sizes: Options of each entry of an action, where it is a choice.
        images: Parts of an observation that are pixels, 0 to 255; not normalised.
        policy_network: A module of the framework for the policy's: observations
            [N, obs_dim], normalised, pixels from 0 to 1 -> what `Head.output_dim` of
            `trpo.spaces.action_heads` counts. It is copied; `trained_networks` gives
            the copy. Options of layers and weights say nothing to it.
        value_network: One for the critic: observations [N, obs_dim] -> [N, 1].
        options: All other fields of `trpo.config.run.TRPOConfig`, by name.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    act_dim: int
    action_high: np.ndarray
    action_low: np.ndarray
    backend: Backend
    config: TRPOConfig
    custom_networks: CustomNetworks
    dtype: np.dtype[Any]
    head: Head
    obs_dim: int
    state: AgentState

    def __init_subclass__(cls, **options: Any) -> None:
        """Have `help` of a backend's class say what each argument is."""
        super().__init_subclass__(**options)
        if "backend_type" in vars(cls):
            _, _, rest = (AgentBase.__doc__ or "").partition("    Args:\n")
            own = textwrap.dedent(rest.partition("    Raises:")[0]).strip()
            # Of the configuration each field has its own text.
            own = re.sub(
                r"^(policy_layer_sizes|options):.*\n?(?: .*\n?)*", "", own, flags=re.M
            )
            text = f"{section('Args', FIELD_TEXTS)}\n{textwrap.indent(own, '    ')}"
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{text}\n"

    backend_type: type[Backend]
    """The framework's half, of which each agent has one."""
    defaults: ClassVar[dict[str, Any]] = {}
    """Settings of `TRPOConfig` that differ from its own."""
    spec: PolicySpec
    """Sizes; `spec.to_environment` makes the environment's actions of the agent's."""
    checks_advantages: bool = True
    """Whether the next update, once, says it if advantages are far from centred."""
    sharding: Sharding | None = None
    """How updates are divided over devices and processes; None if they are not."""

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        action_low: Any,
        action_high: Any,
        device: Any,
        policy_layer_sizes: Sequence[int],
        critic_layer_sizes: Sequence[int],
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        target_kl: float = 0.01,
        cg_iters: int = 10,
        cg_damping: float = 0.1,
        backtrack_coeff: float = 0.8,
        backtrack_iters: int = 10,
        value_lr: float = 3e-4,
        value_epochs: int = 10,
        value_minibatch_size: int = 256,
        max_grad_norm: float = 0.5,
        normalize_advantages: bool = True,
        optimizer_type: str = "adam",
        sgd_momentum: float = 0.9,
        *,
        dtype: str = "float32",
        seed: int = 0,
        normalize_observations: bool = False,
        observation_clip: float = 10.0,
        distribution: str = GAUSSIAN,
        action_sizes: Sequence[int] = (),
        images: Sequence[Image] = (),
        policy_network: Any = None,
        value_network: Any = None,
        **options: Unpack[AgentOptions],
    ) -> None:
        require_count("obs_dim", obs_dim)
        head = Head(act_dim, distribution, tuple(action_sizes))
        bounds = action_bounds(action_low, action_high, act_dim)
        config = TRPOConfig(
            policy_layer_sizes=policy_layer_sizes,  # pyright: ignore[reportArgumentType]
            critic_layer_sizes=critic_layer_sizes,  # pyright: ignore[reportArgumentType]
            gamma=gamma, gae_lambda=gae_lambda, target_kl=target_kl,
            cg_iters=cg_iters, cg_damping=cg_damping,
            backtrack_coeff=backtrack_coeff, backtrack_iters=backtrack_iters,
            value_lr=value_lr, value_epochs=value_epochs,
            value_minibatch_size=value_minibatch_size, max_grad_norm=max_grad_norm,
            normalize_advantages=normalize_advantages, sgd_momentum=sgd_momentum,
            optimizer_type=optimizer_type,  # pyright: ignore[reportArgumentType]
            policy_distribution=head.of_reals,  # pyright: ignore[reportArgumentType]
            dtype=dtype,  # pyright: ignore[reportArgumentType]
            **(self.defaults | cast(dict[str, Any], options)),
        )  # fmt: skip
        spec = PolicySpec(
            int(obs_dim), head, *bounds, (act_dim,), np.dtype(dtype),
            images=tuple(images),
        )  # fmt: skip
        self._begin(
            spec, config, device, seed, normalize_observations, observation_clip,
            policy_network, value_network,
        )  # fmt: skip

    @classmethod
    def from_config(
        cls, spec: PolicySpec, config: TRPOConfig, device: Any = "cpu", **others: Any
    ) -> Self:
        """An agent of hyperparameters that are a configuration already.

        Args:
            spec: Sizes and bounds, as `trpo.spaces.spaces.policy_spec` makes them.
            config: Hyperparameters; the distribution is the spec's.
            device: As in the constructor.
            others: `seed`, `normalize_observations`, `observation_clip`,
                `policy_network` and `value_network`, likewise.

        Raises:
            ValueError: an argument is out of range, or another class has this kind of
                network or update.
        """
        agent = cls.__new__(cls)
        distribution = spec.head.of_reals
        config = dataclasses.replace(config, policy_distribution=distribution)  # pyright: ignore[reportArgumentType]
        agent._begin(spec, config, device, **others)
        return agent

    def _begin(
        self,
        spec: PolicySpec,
        config: TRPOConfig,
        device: Any,
        seed: int = 0,
        normalize_observations: bool = False,
        observation_clip: float = 10.0,
        policy_network: Any = None,
        value_network: Any = None,
    ) -> None:
        require_seed(seed)
        require_positive("observation_clip", observation_clip)
        self.spec, self.config = spec, config
        self.head, self.obs_dim, self.act_dim = spec.head, spec.obs_dim, spec.act_dim
        self.action_low, self.action_high = spec.action_low, spec.action_high
        self.head.check_bounds(self.action_low, self.action_high)
        self.dtype = np.dtype(config.dtype)
        networks = self.custom_networks = CustomNetworks(policy_network, value_network)
        self._normalization = (bool(normalize_observations), float(observation_clip))
        self._require_kind()
        for kind, asked in (
            (RECURRENT, config.recurrent != NONE),
            (CONSTRAINED, config.cost_limit is not None),
            (CUSTOM, networks != (None, None)),
        ):
            if asked:
                require_supported(
                    kind, config, images=spec.images, policy_network=policy_network,
                    value_network=value_network,
                )  # fmt: skip
        check_images(spec.images, self.obs_dim)
        self._make(device, int(seed))
        if ignored := networks.ignored(config):
            warnings.warn(
                f"{', '.join(ignored)}: not used, as a network of your own has its own "
                "layers, activations and weights.",
                stacklevel=3,
            )

    def _make(self, device: Any, seed: int) -> None:
        """The framework's half, and the state, as they are at first."""
        self._lock = threading.RLock()
        self.backend = self.backend_type(
            self.spec, self.config, device, self._initial_weights(seed),
            self.custom_networks,
        )  # fmt: skip
        normalizer, (normalize, clip) = None, self._normalization
        parts = self.backend.architecture.vector_parts(self.obs_dim)
        if normalize and parts:
            columns = np.arange(self.obs_dim)
            normalized = np.concatenate([columns[part] for part in parts])
            normalizer = ObservationNormalizer(
                self.obs_dim, clip, normalized if self.spec.images else None
            )
        self.state = AgentState(self.backend, seed, normalizer)

    def _initial_weights(
        self, seed: int, critic: Purpose = Purpose.CRITIC_WEIGHTS
    ) -> dict[str, np.ndarray]:
        """Initial weights under canonical names, in the agent's dtype."""
        names = (
            "policy_layer_sizes", "critic_layer_sizes", "initial_log_std",
            "initialization", "share_encoder", "recurrent", "recurrent_size",
        )  # fmt: skip
        weights = initial_weights(
            obs_dim=self.obs_dim, head=self.head, seed=seed, critic=critic,
            architecture=self.config.architecture(self.spec.images),
            **{name: getattr(self.config, name) for name in names},
        )  # fmt: skip
        return {name: a.astype(self.dtype) for name, a in weights.items()}

    def _require_kind(self) -> None:
        """Raise ValueError unless this class is for the configured kind of network."""
        if self.config.recurrent != NONE:
            raise ValueError(
                f"`recurrent`: expected {NONE!r} for {type(self).__name__}, got "
                f"{self.config.recurrent!r}. Take RecurrentTRPOAgent, whose `act` "
                "takes and returns hidden states, or make the agent by trpo.make_agent."
            )
        if self.config.cost_limit is not None:
            raise ValueError(
                f"`cost_limit`: expected None for {type(self).__name__}, got "
                f"{self.config.cost_limit!r}. Take ConstrainedTRPOAgent, whose update "
                "takes costs, or make the agent by trpo.make_agent."
            )

    @classmethod
    def for_spaces(
        cls,
        observation_space: Space[Any],
        action_space: Space[Any],
        device: Any = "cpu",
        policy_distribution: str = GAUSSIAN,
        policy_network: Any = None,
        value_network: Any = None,
        **config: Unpack[SpacesOptions],
    ) -> Self:
        """An agent for the spaces of one (not vectorised) environment.

        Observations are taken flat, those that are no arrays (Discrete, Dict, …) as
        `gymnasium.spaces.flatten` makes them; images, also parts, are encoded. Discrete
        actions are numbers from 0; `agent.spec.to_environment` makes the environment's
        of them. `predict` takes and answers the environment's own.

        Args:
            observation_space: Of one environment; a vector environment's is
                `single_observation_space`.
            action_space: Likewise, `single_action_space`.
            device: As in the constructor.
            policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.
            policy_network: As in the constructor.
            value_network: Likewise.
            config: Further arguments of the constructor, by name, sizes of layers
                among them.

        Raises:
            UnsupportedSpaceError: names the space, and those that are supported.
            ValueError: an argument is out of range.
        """
        require_single(observation_space, action_space)
        space = flattened(observation_space)
        spec = policy_spec(space, action_space, policy_distribution)
        settings: dict[str, Any] = cls.defaults | cast(dict[str, Any], config)
        others = {n: settings.pop(n) for n in NO_SETTINGS if n in settings}
        others |= {"policy_network": policy_network, "value_network": value_network}
        return cls.from_config(spec, TRPOConfig(**settings), device, **others)

    @property
    def framework(self) -> str:
        """Name of the backend."""
        return self.backend.framework

    @property
    def device(self) -> Any:
        """The framework's device."""
        return self.backend.device

    @property
    def policy(self) -> Any:
        """The policy's module, or its tree of arrays: of normalised observations.

        `policy_function` has the normaliser and the environment's actions too.
        """
        return self.backend.policy

    @property
    def critic(self) -> Any:
        """The critic's module, or its tree of arrays."""
        return self.backend.critic

    @property
    def seed(self) -> int:
        """Seed of the random streams."""
        return self.state.seed

    @property
    def observation_normalizer(self) -> ObservationNormalizer | None:
        """Running statistics of observations; None if they are taken as they are."""
        return self.state.observation_normalizer

    # The original agent's helpers.

    def _build_value_optimizer(self, params: Iterable[Any]) -> Any:
        """See `trpo.agent.backend.Backend.build_value_optimizer`."""
        return self.backend.build_value_optimizer(params)

    def _policy_objective(
        self, obs: Any, actions: Any, old_log_probs: Any, advantages: Any
    ) -> Any:
        """See `trpo.agent.backend.Backend.policy_objective`."""
        return self.backend.policy_objective(obs, actions, old_log_probs, advantages)

    # The agent's interface.

    @exclusive
    def act(
        self, obs: Any, deterministic: bool = False, action_mask: Any = None
    ) -> tuple[Any, Any, Any]:
        """Sample actions, or take the most likely ones.

        Args:
            obs: [B, obs_dim] observations, NumPy's or the framework's.
            deterministic: Take the policy's mode instead of sampling.
            action_mask: [B, sum(head.options)] 0 where an option can't be taken, else
                1, of all choices in turn; None where nothing is forbidden.

        Returns:
            Action [B, act_dim], its log-probability [B, 1] in nats and the critic's
            value [B, 1], in the kind of array that `obs` is.

        Raises:
            ValueError: `obs` or `action_mask` has another shape, or forbids all.
        """
        native = self.backend.is_native(obs)
        obs = self._prepare_obs(obs)
        mask = self._prepare_mask(action_mask, obs.shape[0])
        noise = None if deterministic else self.draw_noise(obs.shape[0])
        outputs = self.backend.forward(obs, noise, mask)
        return outputs if native else tuple(map(self.backend.to_numpy, outputs))

    @exclusive
    def sample_actions(
        self, obs: np.ndarray, deterministic: bool = False, action_mask: Any = None
    ) -> np.ndarray:
        """The actions [B, act_dim] of `act` alone, in a third of its time.

        What else an update needs, `evaluate_actions` computes of a whole rollout.

        Args:
            obs: [B, obs_dim] observations of NumPy.
            deterministic: As in `act`.
            action_mask: As in `act`.

        Raises:
            ValueError: see `act`.
        """
        obs = self._prepare_obs(obs)
        mask = self._prepare_mask(action_mask, obs.shape[0])
        noise = None if deterministic else self.draw_noise(obs.shape[0])
        return self.backend.to_numpy(self.backend.sample(obs, noise, mask))

    @exclusive
    def host_policy(self, rows: int) -> HostPolicy | None:
        """The policy as it is now, in NumPy, to act on `rows` observations at a time.

        None where the framework is faster, or the only one that can, see `acts_here`.
        """
        brought = self.custom_networks.policy is not None
        if brought or not acts_here(self.config, self.spec, rows):
            return None
        arrays, activation = self.backend.policy_arrays(), self.config.activation
        normalizer = self.observation_normalizer
        return HostPolicy(self.head, activation, arrays, normalizer, rows)

    @exclusive
    def evaluate_actions(
        self, obs: np.ndarray, actions: np.ndarray, action_mask: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the present policy and critic say of actions that were taken.

        Args:
            obs: [N, obs_dim] observations of NumPy.
            actions: [N, act_dim] as `act` sampled them.
            action_mask: [N, options] as `act` was given it.

        Returns:
            Log-probability [N, 1] in nats and value [N, 1], computed as in an update:
            the ratio starts at 1.

        Raises:
            ValueError: an argument has another shape, or is not finite.
        """
        obs = self._prepare_obs(obs)
        size = obs.shape[0]
        mask = self._prepare_mask(action_mask, size)
        fields = self._checked_fields(
            {"actions": actions}, size, {"actions": self.act_dim}
        )
        rows = self.config.batch_chunk_size or size
        parts = []
        for start in range(0, size, rows):
            chosen = slice(start, start + rows)
            some = None if mask is None else mask[chosen]
            given = (obs[chosen], fields["actions"][chosen], some)
            parts.append(map(self.backend.to_numpy, self.backend.evaluate(*given)))
        log_probs, values = map(np.concatenate, zip(*parts, strict=True))
        return log_probs, values

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions for an environment's own observations, as Stable-Baselines3's.

        Args:
            obs: One observation or a batch of them, as the environment gives it; an
                agent that was made without spaces takes [obs_dim] or [B, obs_dim].
            state: Of a recurrent agent, what the last call returned; None at first.
            episode_start: [B] True where the observation is the first of an episode.
            deterministic: Take the policy's mode instead of sampling.

        Returns:
            What `step` of the environment takes, of NumPy; and the new state.

        Raises:
            ValueError: `obs` is no observation of that space.
        """
        rows, single = self.spec.flat_observations(obs)
        action, state = self._act_on(rows, state, episode_start, deterministic)
        if single:
            return self.spec.one_to_environment(action[0]), state
        return self.spec.to_environment(action), state

    def _act_on(
        self, obs: np.ndarray, state: Any, starts: Any, deterministic: bool
    ) -> tuple[np.ndarray, Any]:
        """Actions [B, act_dim], and the state after them."""
        return self.sample_actions(obs, deterministic), state

    @exclusive
    def policy_function(self) -> Any:
        """The policy as it is now, for one's own code: raw observations -> actions.

        With the normaliser; actions are the environment's, as `spec.to_environment`
        makes them. A later update changes nothing in it: call this again.

        Returns:
            In JAX `function, parameters`: `function(parameters, obs, key, mask=None)`
            is pure, of one observation [obs_dim] or of [B, obs_dim], so that it jits
            and vmaps; `key` is JAX's, or None for the policy's mode. In PyTorch a
            `torch.nn.Module` of `obs`, `noise` (`spec.head.draw_noise`'s, or None for
            the mode) and `mask`.

        Raises:
            ValueError: the agent has a memory, which such a function has not.
        """
        return self.backend.policy_function(self.spec, self.observation_normalizer)

    @exclusive
    def trained_networks(self) -> CustomNetworks:
        """Copies of the networks that the user brought, with their present weights.

        Named `policy` and `value`; None where the agent made its own.
        """
        return self.backend.trained_networks()

    @exclusive
    def value(self, obs: Any) -> Any:
        """The critic's value [B, 1] of `obs` [B, obs_dim], in the kind of `obs`."""
        native = self.backend.is_native(obs)
        value = self.backend.value(self._prepare_obs(obs))
        return value if native else self.backend.to_numpy(value)

    @exclusive
    def update(
        self,
        batch: Mapping[str, Any] | AnyBatch,
        *,
        target_kl: float | None = None,
        value_lr: float | None = None,
        entropy_coefficient: float | None = None,
        rows: np.ndarray | None = None,
        before: Snapshot | None = None,
    ) -> dict[str, float]:
        """Take one trust-region step, then fit the critic to the returns.

        Commits a finite state inside the trust region, or leaves every byte as it was
        and says why in `policy/status` (see `trpo.data.report.StepStatus`).

        Advantages and returns are taken as they are. `gamma`, `gae_lambda` and
        `normalize_advantages` are for the loop that makes them: `trpo.Trainer`, or
        your own by `trpo.data.advantages`.

        Args:
            batch: `obs` [N, obs_dim], `actions` [N, act_dim], and `log_probs`,
                `returns`, `advantages`, each [N] or [N, 1]; and, where `act` was given
                one, `action_mask` [N, sum(head.options)]. Recurrent agents and those
                with a cost limit take their own kind, see `trpo.data.batch`.
            target_kl: This update's trust-region radius; the configuration's if None.
            value_lr: This update's learning rate of the critic; likewise.
            entropy_coefficient: Of this update; likewise.
            rows: [N] numbers of these samples among all ranks'; in their order if None.
            before: A snapshot since which no weight has changed, if there is one.

        Returns:
            The metrics, under the names of `trpo.data.report.METRIC_NAMES`.

        Raises:
            ValueError: a field is missing, empty, wrongly shaped or not finite; it is
                named, and nothing has changed.
        """
        numbers = self.config.step_numbers(target_kl, value_lr, entropy_coefficient)
        native_batch = self._check_batch(cast(Any, batch))
        self._warn_if_uncentred(batch)
        size, update = self._shuffled(native_batch), self.backend.update
        if self.sharding is not None:
            shards = self.sharding.divide(size, rows)
            update = partial(self.backend.update_sharded, self.sharding, shards)
            size = shards.total
        orders = self.state.minibatch_orders(self.config.value_epochs, size)
        with self.state.all_or_nothing(before) as unchanged:
            report = update(native_batch, orders, numbers)
            self.state.minibatch_draws += 1
            if int(report.status) == StepStatus.NON_FINITE:
                self.state.restore(unchanged)
            return report.as_metrics()

    def _warn_if_uncentred(self, batch: Any) -> None:
        """Of the first batch, say that advantages seem not to be normalised."""
        of_rank = self.sharding is not None and self.sharding.ranks.size > 1
        asked = self.checks_advantages and self.config.normalize_advantages
        self.checks_advantages = False
        if of_rank or not asked:
            return
        # As they were given: what is on a device by now would have to come back.
        fields = batch if isinstance(batch, Mapping) else batch._asdict()
        advantages = self._on_host("batch['advantages']", fields["advantages"])
        if fields.get("valid") is not None:
            valid = self._on_host("batch['valid']", fields["valid"]).astype(bool)
            advantages = advantages.reshape(valid.shape)[valid]
        advantages = advantages.astype(np.float64)
        mean, deviation = advantages.mean(), advantages.std()
        if abs(mean) <= UNCENTRED * deviation:
            return
        warnings.warn(
            "`normalize_advantages` is on, and these advantages have mean "
            f"{mean:.3g} and standard deviation {deviation:.3g}: `update` takes them "
            "as they are. Normalise them before, by "
            "trpo.data.advantages.normalize_advantages, or make the agent with "
            "normalize_advantages=False.",
            stacklevel=4,
        )

    @exclusive
    def observe(self, obs: np.ndarray) -> None:
        """Add raw observations [N, obs_dim] to the running normalisation, if on.

        Raises:
            ValueError: `obs` has another shape, is not finite, or is so large that
                squares of it overflow; nothing has changed.
        """
        if self.observation_normalizer is not None:
            obs = real_array("obs", obs)
            require_shape("obs", obs, (None, self.obs_dim))
            require_finite("obs", obs, self.largest_observation)
            ranks = ALONE if self.sharding is None else self.sharding.ranks
            self.observation_normalizer.update(obs, ranks)

    @exclusive
    def shard(
        self,
        ranks: Alone = ALONE,
        num_envs: int | None = None,
        devices: Sequence[Any] = (),
    ) -> None:
        """Divide updates over devices and processes from here on.

        Every rank must then call `update` and `observe`, each with its own part.

        Args:
            ranks: This process and the others, which `start` of the backend's
                `distributed` has made.
            num_envs: Environments of all ranks, if this one acts in its own of them.
            devices: JAX's, of this process; by default all of the agent's kind where
                there are other processes, else the agent's own.

        Raises:
            ValueError: the backend can't use these devices, or a rank would have no
                environment.
        """
        self.backend.use_devices(ranks, devices)
        self.sharding = Sharding(ranks, num_envs)

    @exclusive
    def snapshot(self) -> Snapshot:
        """The present state in memory, to come back to by `restore`.

        Cheaper than `get_state`: nothing leaves the device.
        """
        return self.state.snapshot()

    @exclusive
    def restore(self, snapshot: Snapshot) -> None:
        """Make every byte of the state what it was when `snapshot` was taken."""
        self.state.restore(snapshot)

    @exclusive
    def get_state(self, at: Snapshot | None = None) -> dict[str, np.ndarray]:
        """Copies of all that the next `act` or `update` depends on, by canonical name.

        Of now, or of the time of a snapshot.

        The names are the same in both backends, so that either continues the other:
        `policy.layers.<i>.weight` [out, in], `policy.log_std` [act_dim],
        `policy.norms.<i>.weight` [units] where layers are normalised,
        `value.layers.<i>.bias`, `value_optimizer.…`, `observation_normalizer.…`,
        `random.…`.
        """
        return self.state.arrays(self.snapshot() if at is None else at)

    @exclusive
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state`, as `get_state` of either backend returned it.

        Raises:
            ValueError: a name, shape, dtype or value is wrong; it is named, and
                nothing has changed.
        """
        self.state.load(state)

    @exclusive
    def digest(self) -> np.ndarray:
        """SHA-256 [32] of every byte of weights and optimiser; equal on all ranks."""
        digest = hashlib.sha256()
        for name, array in self.backend.arrays_of(self.backend.learned()).items():
            digest.update(name.encode() + array.tobytes())
        return np.frombuffer(digest.digest(), dtype=np.uint8)

    def draw_noise(self, rows: int) -> np.ndarray:
        """The next noise [rows, act_dim], from which actions are sampled; rounded."""
        with self._lock:
            if self.sharding is None or self.sharding.environments is None:
                return self.state.draw_noise(rows).astype(self.dtype)
            # Every environment's, so that each has what it has in a run of one process.
            count, share = self.sharding.environments
            return self.state.draw_noise(count)[share].astype(self.dtype)

    # Checks of arguments, and their conversion to the framework's arrays.

    def _shuffled(self, batch: Batch) -> int:
        """How many things the critic's minibatches are drawn from: samples."""
        return batch.obs.shape[0]

    @property
    def largest_observation(self) -> float:
        """Absolute value above which an observation is refused."""
        normalized = self.observation_normalizer is not None
        return largest_observation(self.dtype, normalized)

    def _is_native(self, name: str, array: Any) -> bool:
        """Whether an array is the framework's own, with values."""
        native = self.backend.is_native(array)
        if native:
            self.backend.require_values(name, array)
        return native

    def _prepare_obs(self, obs: Any, name: str = "obs") -> Any:
        """Checked observations, normalised if normalisation is on."""
        native = self._is_native(name, obs)
        if not native:
            obs = real_array(name, obs)
            require_finite(name, obs, self.largest_observation)
        require_shape(name, obs, (None, self.obs_dim))
        if self.observation_normalizer is not None:
            if native:
                obs = self.backend.to_numpy(obs)
                require_finite(name, obs, self.largest_observation)
            obs = self.observation_normalizer.normalize(obs, self.dtype)
        return obs

    def _on_host(self, name: str, array: Any) -> np.ndarray:
        """Real numbers as a NumPy array."""
        native = self._is_native(name, array)
        return self.backend.to_numpy(array) if native else real_array(name, array)

    def _prepare_mask(self, mask: Any, rows: int, name: str = "action_mask") -> Any:
        """The checked mask [rows, options] as native 0 and 1; None if there is none.

        Raises:
            ValueError: it has another shape or other entries, forbids everything, or
                actions are real numbers.
        """
        if mask is None:
            return None
        if not self.head.options:
            raise ValueError(
                f"`{name}`: expected None, as {self.head.distribution!r} actions are "
                "real numbers, got a mask."
            )
        mask = self._on_host(name, mask)
        require_shape(name, mask, (None, sum(self.head.options)))
        mask = as_rows(name, mask, rows, width=mask.shape[1])
        self.head.check_mask(name, mask)
        return self.backend.to_native(mask.astype(self.dtype))

    def _checked_fields(
        self, arrays: Mapping[str, Any], rows: int, widths: Mapping[str, int]
    ) -> dict[str, Any]:
        """Fields of a batch as native [rows, width] in the agent's dtype.

        Args:
            arrays: By the field's name.
            rows: Samples.
            widths: Field -> its width, if that is not 1.

        Raises:
            ValueError: one has another shape, or is not finite in that dtype.
        """
        checked, on_device = {}, {}
        for field, array in arrays.items():
            name = f"batch['{field}']"
            native = self._is_native(name, array)
            array = array if native else real_array(name, array)
            array = as_rows(name, array, rows, width=widths.get(field, 1))
            # Bytes, of images and one-hots, are finite in any dtype.
            if not native and array.dtype != np.uint8:
                with np.errstate(over="ignore"):
                    array = array.astype(self.dtype, copy=False)
                # After the cast, which may overflow.
                require_finite(name, array)
            checked[field] = self.backend.to_native(array)
            if native:
                on_device[name] = checked[field]
        # One answer for all crosses to the host.
        if not self.backend.all_finite(list(on_device.values())):
            for name, array in on_device.items():
                require_finite(name, self.backend.to_numpy(array))
        return checked

    def _check_batch(self, batch: Mapping[str, Any] | Batch) -> Batch:
        """The batch as native arrays in the agent's dtype, each [N, width]."""
        fields = batch_fields(batch)
        fields["obs"] = self._prepare_obs(fields["obs"], "batch['obs']")
        mask = self._prepare_mask(
            fields.pop("action_mask", None),
            fields["obs"].shape[0],
            "batch['action_mask']",
        )
        widths = {"obs": self.obs_dim, "actions": self.act_dim}
        checked = self._checked_fields(fields, fields["obs"].shape[0], widths)
        if self.head.options:
            actions = self.backend.to_numpy(checked["actions"])
            host_mask = None if mask is None else self.backend.to_numpy(mask)
            self.head.check_actions("batch['actions']", actions, host_mask)
        return Batch(**checked, action_mask=mask)
