"""`TRPOAgent` in JAX, and its backend: the stateful shell round the pure parts."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.core import Tracer

from trpo.agent.backend import Backend
from trpo.agent.base import AgentBase
from trpo.agent.sharding import Sharding, Shards
from trpo.config.agent import StepNumbers
from trpo.data.batch import Batch, ConstrainedBatch
from trpo.data.normalization import ObservationNormalizer
from trpo.data.report import UpdateReport
from trpo.distributed.ranks import Alone
from trpo.spaces.spaces import PolicySpec
from trpo.spaces.user_networks import CustomNetworks
from trpo_jax.agent import state
from trpo_jax.agent.update import (
    Functions,
    TRPOState,
    act as compiled_act,
    build_value_optimizer,
    evaluate as compiled_evaluate,
    sample as compiled_sample,
    update,
    value as compiled_value,
)
from trpo_jax.devices import processes as distributed
from trpo_jax.devices.device import (
    own_settings,
    require_dtype,
    resolve_device,
    to_array,
    to_floats,
)
from trpo_jax.devices.means import padded
from trpo_jax.devices.mesh import mesh_of, on_mesh, own_copy, place
from trpo_jax.distributions import Distribution
from trpo_jax.networks.feedforward import (
    Parameters,
    as_function,
    critic_function,
    features_function,
    policy_function,
)
from trpo_jax.networks.pure_policy import (
    PolicyParameters,
    parameters_of,
    pure_policy,
)
from trpo_jax.networks.user_networks import CustomCritic, CustomPolicy, checked_network
from trpo_jax.policy_step.objective import Surrogate, surrogate
from trpo_jax.policy_step.step import policy_step


class TRPOBackend(Backend):
    """Networks and optimiser in JAX, and what is computed of them."""

    functions: Any
    mesh: Any

    framework = "jax"
    _step = staticmethod(policy_step)
    _pure_policy: Callable[..., Any] | None = None

    def _take_device(self, device: Any) -> None:
        require_dtype(self.dtype)
        if self.config.fast_products == "on":
            raise ValueError(
                "`fast_products`: expected 'auto' or 'off' with JAX, which compiles "
                "its own products, got 'on'. Take PyTorch's agent, or leave it out."
            )
        self.device = resolve_device(device)
        platform = self.device.platform
        index = jax.local_devices(backend=platform).index(self.device)
        self.device_name = f"{platform}:{index}"
        self._x64 = jax.config.read("jax_enable_x64")

    def own_settings(self) -> AbstractContextManager[Any]:
        return own_settings(self._x64)

    def _build(self, weights: dict[str, np.ndarray]) -> None:
        self._renamings: list[dict[str, state.Renaming]] = [{}, {}]
        # Nothing is made on another device first, which may have no room.
        with jax.default_device(self.device):
            self.functions, policy, critic = self._networks(weights)
            optimizer = self.build_value_optimizer(critic).init(critic)
        self.state: TRPOState = self._put(TRPOState(policy, critic, optimizer))

    def _networks(self, weights: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
        """Policy and critic as pure functions, and their parameters."""
        apply, policy, features = self._build_policy(weights)
        value, critic = self._build_critic(weights)
        functions = Functions(apply, value, self.head, self._step, features)
        return functions, policy, critic

    def _build_policy(self, weights: dict[str, np.ndarray]) -> tuple:
        """Function and parameters, and a function of the features that are shared."""
        config, network = self.config, self.custom_networks.policy
        if network is not None:
            outputs = self.head.output_dim
            network = checked_network("policy_network", network, self.obs_dim, outputs)
            self._renamings[0] = state.canonical_names(network)
            log_std = {n: a for n, a in weights.items() if n == "policy.log_std"}
            return *self._taken_over(
                CustomPolicy(network, self.head, self.images), log_std
            ), None
        kind = (self.obs_dim, config.policy_layer_sizes, self.head, self.architecture)
        features = features_function(*kind) if config.share_encoder else None
        return policy_function(*kind), state.load_network(weights, "policy."), features

    def _build_critic(self, weights: dict[str, np.ndarray]) -> tuple:
        """Function and parameters."""
        config, network = self.config, self.custom_networks.value
        if network is not None:
            network = checked_network("value_network", network, self.obs_dim, 1)
            self._renamings[1] = state.canonical_names(network)
            return self._taken_over(CustomCritic(network, self.images), {})
        input_dim, architecture = self.obs_dim, self.architecture
        if config.share_encoder:
            input_dim = config.policy_layer_sizes[-1]
            architecture = architecture.after_encoder
        function = critic_function(input_dim, config.critic_layer_sizes, architecture)
        return function, state.load_network(weights, "value.")

    def _taken_over(self, module: nnx.Module, more: dict[str, np.ndarray]) -> tuple:
        """A custom module as function and parameters in the agent's dtype."""
        tree = nnx.to_pure_dict(nnx.state(module))
        tree |= state.load_network(more, "policy.")
        cast = jax.tree.map(lambda leaf: np.asarray(leaf, self.dtype), tree)
        return as_function(module), cast

    def build_value_optimizer(self, params: Parameters) -> optax.GradientTransformation:
        """A critic's optimiser, Adam or SGD with momentum: it is the same for any tree.

        Args:
            params: The critic's tree, as in the original agent; optax takes it later,
                in `init` and `update` of what is returned.
        """
        del params
        config = self.config
        return build_value_optimizer(config.step_options(), config.step_numbers())

    @property
    def policy(self) -> Parameters:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.state.policy

    @property
    def critic(self) -> Parameters:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.state.critic

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.device)

    def is_native(self, array: Any) -> bool:
        return isinstance(array, jax.Array)

    def require_values(self, name: str, array: jax.Array) -> None:
        if isinstance(array, Tracer):
            raise ValueError(
                f"`{name}`: expected an array with values, got a tracer of a function "
                "that JAX transforms. Take the pure function that "
                "`agent.policy_function()` returns."
            )

    def to_native(self, array: Any) -> jax.Array | np.ndarray:
        if array.dtype == np.uint8:
            # Images, one-hots: a quarter of the bytes move, and NumPy keeps no copy.
            return self._put(array).astype(self.dtype)
        if self.device.platform != "cpu":
            return self._put(array.astype(self.dtype))
        # A program takes NumPy's own array in a tenth of the time; always that, as it
        # is compiled for either.
        return np.asarray(self._here(array))

    def _here(self, array: Any) -> Any:
        """`array` in the agent's dtype, and on its device if it is on any."""
        if self.is_native(array):
            return self._put(array.astype(self.dtype))
        # What is on none is moved by the program that takes it, which is faster.
        return array.astype(self.dtype, copy=False)

    def to_numpy(self, array: Any) -> np.ndarray:
        return to_array(array)

    def to_indices(self, array: np.ndarray) -> jax.Array | np.ndarray:
        return array if self.device.platform == "cpu" else self._put(array)

    def all_finite(self, arrays: list[Any]) -> bool:
        finite = [jnp.isfinite(array).all() for array in arrays]
        return not finite or bool(jnp.stack(finite).all())

    def sample(self, obs: Any, noise: np.ndarray | None, mask: Any) -> jax.Array:
        return compiled_sample(
            self.functions.policy,
            self.config.matmul_precision,
            self.state.policy,
            self._here(obs),
            noise,
            mask,
        )

    def policy_arrays(self) -> dict[str, np.ndarray]:
        return state.network_arrays(self.policy, "policy.")

    def evaluate(
        self, obs: Any, actions: Any, mask: Any
    ) -> tuple[jax.Array, jax.Array]:
        return compiled_evaluate(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.critic,
            self._here(obs),
            actions,
            mask,
        )

    def forward(
        self, obs: Any, noise: np.ndarray | None, mask: Any = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        return compiled_act(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.critic,
            self._here(obs),
            noise,
            mask,
        )

    def value(self, obs: Any) -> jax.Array:
        return compiled_value(
            self.functions,
            self.config.matmul_precision,
            self.state.policy,
            self.state.critic,
            self._here(obs),
        )

    def policy_function(
        self, spec: PolicySpec, normalizer: ObservationNormalizer | None
    ) -> tuple[Callable[..., Any], PolicyParameters]:
        # The same function each time, so that what the user compiles of it is too.
        if self._pure_policy is None:
            precision = self.config.matmul_precision
            self._pure_policy = pure_policy(
                self.functions.policy, spec, precision, self.dtype
            )
        return self._pure_policy, parameters_of(self.policy, normalizer, self.dtype)

    def trained_networks(self) -> CustomNetworks:
        networks = []
        for network, tree in zip(
            self.custom_networks, (self.policy, self.critic), strict=True
        ):
            copied = None if network is None else nnx.clone(network)
            if copied is not None:
                # JAX's arrays are never written to, so these are nobody's copies.
                nnx.update(copied, tree["network"])
            networks.append(copied)
        return CustomNetworks(*networks)

    def policy_objective(
        self, obs: Any, actions: Any, old_log_probs: Any, advantages: Any
    ) -> Surrogate:
        obs, actions, *columns = self._put((obs, actions, old_log_probs, advantages))
        columns = [column.reshape(-1, 1) for column in columns]
        batch = Batch(obs, actions, columns[0], columns[1] * 0.0, columns[1])
        return surrogate(self._distribution(obs), batch)

    def _distribution(self, obs: Any) -> Distribution:
        """Over the actions at these observations."""
        return self.functions.policy(self.state.policy, obs)

    def update(
        self, batch: Batch | ConstrainedBatch, orders: np.ndarray, numbers: StepNumbers
    ) -> Any:
        batch, orders = padded(batch, orders)
        learned, report = update(
            self.functions,
            self.config.step_options(),
            self.learned(),
            batch,
            orders,
            self.in_dtype_of(numbers),
        )
        self.restore(learned)
        return self._report_of(report)

    def in_dtype_of(self, numbers: StepNumbers) -> StepNumbers:
        """Numbers as `update` takes them."""
        return StepNumbers(*map(self.dtype.type, numbers))

    def _report_of(self, fields: jax.Array) -> Any:
        """The report of the fields that `update` returns."""
        return UpdateReport(*to_floats(fields))

    def use_devices(self, ranks: Alone, devices: Sequence[Any]) -> None:
        devices = distributed.devices_of(self.device, ranks, devices)
        self.mesh = mesh_of(devices, ranks.size)

    def update_sharded(
        self,
        sharding: Sharding,
        shards: Shards,
        batch: Batch | ConstrainedBatch,
        orders: np.ndarray,
        numbers: StepNumbers,
    ) -> Any:
        learned, batch, orders = place(
            self.mesh,
            sharding,
            shards,
            self.learned(),
            batch,
            orders,
            self.config.fisher_every,
        )
        learned, report = on_mesh(update, self.mesh)(
            self.functions._replace(mesh=self.mesh),
            self.config.step_options(),
            learned,
            batch,
            orders,
            self.in_dtype_of(numbers),
        )
        learned, report = own_copy((learned, report))
        # The mesh may begin at another device, or not have the agent's.
        self.restore(self._put(learned))
        return self._report_of(report)

    def learned(self) -> TRPOState:
        return self.state

    def restore(self, learned: TRPOState) -> None:
        self.state = learned

    def arrays_of(self, learned: TRPOState) -> dict[str, np.ndarray]:
        arrays = {
            **state.network_arrays(learned.policy, "policy."),
            **state.network_arrays(learned.critic, "value."),
            **state.optimizer_arrays(learned.optimizer),
        }
        return self.canonical(arrays)

    def canonical(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return state.renamed(arrays, *self._renamings)

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        arrays = state.renamed(arrays, *map(state.inverse, self._renamings))
        with jax.default_device(self.device):
            loaded = TRPOState(
                state.load_network(arrays, "policy."),
                state.load_network(arrays, "value."),
                state.load_optimizer(self.state.optimizer, arrays),
            )
        self.state = self._put(loaded)


class TRPOAgent(AgentBase):
    """Trust-region policy optimisation.

    Schulman et al. 2015, "Trust Region Policy Optimization". Arguments and methods are
    those of `trpo.agent.base.AgentBase`, the same in both backends.
    """

    backend: TRPOBackend
    backend_type: type[Backend] = TRPOBackend
