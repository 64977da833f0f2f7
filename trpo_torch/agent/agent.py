"""`TRPOAgent` in PyTorch, and its backend: the stateful shell round the pure parts."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo.agent.backend import Backend
from trpo.agent.base import AgentBase
from trpo.agent.sharding import Sharding, Shards
from trpo.common.validation import on_host
from trpo.config.agent import StepNumbers
from trpo.data.batch import Batch, ConstrainedBatch, thinned
from trpo.data.normalization import ObservationNormalizer
from trpo.data.report import StepStatus, UpdateReport
from trpo.distributed.ranks import Alone
from trpo.spaces.spaces import PolicySpec
from trpo.spaces.user_networks import CustomNetworks
from trpo_torch.agent import state
from trpo_torch.agent.state import flat_params, set_flat_params
from trpo_torch.agent.update import (
    discard_unless,
    is_fast,
    policy_function,
    report_of,
)
from trpo_torch.critic.fit import ValueFit, fit_critic, loss_and_gradient
from trpo_torch.devices import processes as distributed, reduction
from trpo_torch.devices.device import (
    matmul_precision,
    own_settings,
    require_dtype,
    resolve_device,
    to_array,
)
from trpo_torch.distributions import Distribution
from trpo_torch.fast.critic import (
    loss_and_gradient as fast_loss_and_gradient,
    values,
)
from trpo_torch.fast.products import few_threads, threads_for
from trpo_torch.networks.feedforward import Critic, Policy
from trpo_torch.networks.pure_policy import PurePolicy
from trpo_torch.networks.user_networks import (
    CustomCritic,
    CustomPolicy,
    checked_network,
)
from trpo_torch.policy_step.fisher import PolicyFunction
from trpo_torch.policy_step.objective import Surrogate, surrogate
from trpo_torch.policy_step.step import PolicyStep, policy_step


# torch's default of 1e-8 lets the first steps after a plateau grow too large.
ADAM_EPSILON = 1e-5


class TRPOBackend(Backend):
    """Networks and optimiser in PyTorch, and what is computed of them."""

    value_optimizer: torch.optim.Optimizer
    dense_weights: int | None
    """Multiplications of an observation on a CPU; None if they aren't known."""

    framework = "torch"
    _step = staticmethod(policy_step)

    def _take_device(self, device: Any) -> None:
        self.device = resolve_device(device)
        self.device_name = str(self.device)
        self._torch_dtype = getattr(torch, self.dtype.name)
        require_dtype(self._torch_dtype, self.device)

    def own_settings(self) -> contextlib.AbstractContextManager[Any]:
        return own_settings(self.device)

    def untraced(self, method: Callable[..., Any]) -> Callable[..., Any]:
        # What `torch.compile` makes of NumPy's generators draws other numbers.
        return _untraced(method)

    def _build(self, weights: dict[str, np.ndarray]) -> None:
        # Modules draw weights, which are then overwritten: not from the user's stream.
        with torch.random.fork_rng(devices=[]):
            self._build_networks(weights)
        self._fast = tuple(
            is_fast(self.config.fast_products, network, self.device)
            for network in (self.policy, self.critic)
        )
        self.dense_weights = self._count_weights()

    def _count_weights(self) -> int | None:
        plain = self.custom_networks == CustomNetworks() and not self.images
        if self.device.type != "cpu" or not plain:
            return None
        networks = (self.policy, self.critic)
        return sum(p.numel() for network in networks for p in network.parameters())

    def _build_networks(self, weights: dict[str, np.ndarray]) -> None:
        self.policy = self._build_policy(weights)
        self.critic = self._build_critic(weights)
        self.value_optimizer = self.build_value_optimizer(self.critic.parameters())

    def _build_policy(self, weights: dict[str, np.ndarray]) -> nn.Module:
        network = self.custom_networks.policy
        if network is None:
            sizes = self.config.policy_layer_sizes
            policy = Policy(self.obs_dim, sizes, self.head, self.architecture)
        else:
            outputs = self.head.output_dim
            network = checked_network("policy_network", network, self.obs_dim, outputs)
            policy = CustomPolicy(network, self.head, self.images)
            weights = state.network_arrays(policy, "policy.") | {
                name: a for name, a in weights.items() if name == "policy.log_std"
            }
        return self._loaded(policy, weights, "policy.")

    def _build_critic(self, weights: dict[str, np.ndarray]) -> nn.Module:
        config, network = self.config, self.custom_networks.value
        if network is not None:
            network = checked_network("value_network", network, self.obs_dim, 1)
            critic = CustomCritic(network, self.images)
            return critic.to(self.device, self._torch_dtype)
        input_dim, architecture = self.obs_dim, self.architecture
        if config.share_encoder:
            input_dim = config.policy_layer_sizes[-1]
            architecture = architecture.after_encoder
        critic = Critic(input_dim, config.critic_layer_sizes, architecture)
        return self._loaded(critic, weights, "value.")

    def _loaded(
        self, network: nn.Module, weights: dict[str, np.ndarray], prefix: str
    ) -> nn.Module:
        """The network on the agent's device, with these weights."""
        # Loaded into the agent's own precision: torch makes modules in float32.
        network = network.to(self.device, self._torch_dtype)
        state.load_network(network, weights, prefix)
        return network

    def build_value_optimizer(
        self, params: Iterable[nn.Parameter]
    ) -> torch.optim.Optimizer:
        config = self.config
        if config.optimizer_type == "adam":
            return torch.optim.Adam(
                params, lr=config.value_lr, eps=ADAM_EPSILON, fused=True
            )
        return torch.optim.SGD(
            params, lr=config.value_lr, momentum=config.sgd_momentum, fused=True
        )

    def is_native(self, array: Any) -> bool:
        return isinstance(array, Tensor)

    def require_values(self, name: str, array: Tensor) -> None:
        with contextlib.suppress(RuntimeError, NotImplementedError):
            array.untyped_storage()
            if not torch.jit.is_tracing():
                return
        raise ValueError(
            f"`{name}`: expected a dense tensor with values, got one inside of a "
            "transformation of torch.func or of torch.jit.trace, or a sparse one: "
            "noise and weights would be frozen. Take the module that "
            "`agent.policy_function()` returns."
        )

    def to_native(self, array: Any) -> Tensor:
        if isinstance(array, np.ndarray):
            # torch refuses to share memory that it may not write to.
            array = torch.from_numpy(np.require(array, self.dtype, ["C", "W"]))
            return array if self.device.type == "cpu" else array.to(self.device)
        array = array.detach().to(self.device, self._torch_dtype)
        # No gradient is made with a tensor of `torch.inference_mode`.
        return array.clone() if array.is_inference() else array

    def to_numpy(self, array: Tensor) -> np.ndarray:
        return array.detach().cpu().numpy()

    def to_indices(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self.device).long()

    def all_finite(self, arrays: list[Tensor]) -> bool:
        finite = [torch.isfinite(array).all() for array in arrays]
        return not finite or bool(torch.stack(finite).all())

    @few_threads
    @torch.no_grad()
    def sample(self, obs: Any, noise: np.ndarray | None, mask: Tensor | None) -> Tensor:
        with matmul_precision(self.config.matmul_precision):
            distribution = self.policy.forward(self.to_native(obs), mask)
        if noise is None:
            return distribution.mode()
        return distribution.sample(self.to_native(noise))

    def policy_arrays(self) -> dict[str, np.ndarray]:
        return state.network_arrays(self.policy, "policy.")

    @torch.no_grad()
    def evaluate(
        self, obs: Any, actions: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        obs, (fast, fast_critic) = self.to_native(obs), self._fast
        with matmul_precision(self.config.matmul_precision):
            policy = policy_function(self.policy, obs, mask, fast=fast)
            log_probs = policy(flat_params(self.policy)).log_prob(actions)
            inputs = self._encoded(obs)
            if fast_critic:
                return log_probs, values(self.critic, inputs)
            return log_probs, self.critic.forward(inputs)

    @few_threads
    @torch.no_grad()
    def forward(
        self, obs: Any, noise: np.ndarray | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        obs = self.to_native(obs)
        with matmul_precision(self.config.matmul_precision):
            # Past nn.Module's hooks, of which there are none.
            distribution = self.policy.forward(obs, mask)
            value = self.critic.forward(self._encoded(obs))
        if noise is None:
            action = distribution.mode()
        else:
            action = distribution.sample(self.to_native(noise))
        return action, distribution.log_prob(action), value

    @few_threads
    @torch.no_grad()
    def value(self, obs: Any) -> Tensor:
        with matmul_precision(self.config.matmul_precision):
            return self.critic(self._encoded(self.to_native(obs)))

    @torch.no_grad()
    def _encoded(self, obs: Tensor) -> Tensor:
        """The critic's input: observations, or the policy's features of them."""
        if not self.config.share_encoder:
            return obs
        assert isinstance(self.policy, Policy)
        return self.policy.features(obs)

    def policy_function(
        self, spec: PolicySpec, normalizer: ObservationNormalizer | None
    ) -> nn.Module:
        precision = self.config.matmul_precision
        return PurePolicy(self.policy, spec, normalizer, precision)

    def trained_networks(self) -> CustomNetworks:
        networks: list[Any] = [
            None if brought is None else copy.deepcopy(module.network)
            for brought, module in zip(
                self.custom_networks, (self.policy, self.critic), strict=True
            )
        ]
        return CustomNetworks(*networks)

    def policy_objective(
        self, obs: Any, actions: Tensor, old_log_probs: Any, advantages: Tensor
    ) -> Surrogate:
        columns = (old_log_probs.reshape(-1, 1), advantages.reshape(-1, 1))
        batch = Batch(obs, actions, columns[0], columns[1] * 0.0, columns[1])
        return surrogate(self._distribution(obs), batch)

    def _distribution(self, obs: Any) -> Distribution:
        """Over the actions at these observations."""
        return self.policy(obs)

    def update(self, batch: Any, orders: Any, numbers: StepNumbers) -> Any:
        samples = len(batch.samples.log_probs)
        threads: Any = contextlib.nullcontext
        if self.config.fast_products != "off":
            threads = functools.partial(threads_for, self.dense_weights)
        with matmul_precision(self.config.matmul_precision):
            with threads(samples):
                step = self._step(
                    self._policy_function(batch.samples),
                    flat_params(self.policy),
                    batch,
                    self.config.step_options(),
                    numbers,
                    self._fisher_policy(batch.samples),
                )
            # Before the fits: a shared encoder is the one that acts next.
            set_flat_params(self.policy, step.theta)
            for _, optimizer in self._critics():
                for group in optimizer.param_groups:
                    group["lr"] = numbers.value_lr
            with threads(self.config.value_minibatch_size or samples):
                fits = self._fit_critics(batch, orders, numbers)
        sound = step.status != StepStatus.NON_FINITE
        loss = sum(fit.loss for fit in fits)
        step = discard_unless(sound and self._is_sound(step.theta, loss), step)
        return self._report(step, fits)

    def _report(self, step: PolicyStep, fits: list[ValueFit]) -> Any:
        """The report of an update, from its halves."""
        return report_of(UpdateReport, step, fits[0])

    def use_devices(self, ranks: Alone, devices: Sequence[Any]) -> None:
        distributed.devices_of(self.device, ranks, devices)

    def update_sharded(
        self,
        sharding: Sharding,
        shards: Shards,
        batch: Batch | ConstrainedBatch,
        orders: np.ndarray,
        numbers: StepNumbers,
    ) -> Any:
        orders, total = self._divided(sharding, shards, batch, orders)
        across, every = len(shards.everyone) > 1, self.config.fisher_every
        one = torch.full_like(batch.log_probs, 1.0 / total)
        few = None
        if every > 1:
            chosen = np.flatnonzero(shards.numbers % every == 0)
            rows = torch.as_tensor(chosen, device=one.device)
            weights = torch.full_like(one[rows], 1.0 / -(-total // every))
            few = rows, reduction.Shard(weights, across)
        with reduction.sharded(reduction.Shard(one, across, few)):
            return self.update(batch, orders, numbers)

    def _divided(
        self, sharding: Sharding, shards: Shards, batch: Any, orders: np.ndarray
    ) -> tuple[Any, int]:
        """What this process has of the critic's minibatches; samples of all."""
        size = self.config.value_minibatch_size
        return sharding.minibatches(shards, orders, size), shards.total

    def _policy_function(self, batch: Batch) -> PolicyFunction:
        rows = self.config.batch_chunk_size
        given = (batch.obs, batch.action_mask, rows, self._fast[0])
        return policy_function(self.policy, *given)

    def _fisher_policy(self, batch: Batch) -> PolicyFunction | None:
        """The same at the samples of Fisher products; None where they are over all."""
        if (every := self.config.fisher_every) == 1:
            return None
        if (shard := reduction.current()) is None:
            return self._policy_function(thinned(batch, every))
        assert shard.few is not None
        rows, _ = shard.few
        few = (None if field is None else field[rows] for field in batch)
        return self._policy_function(Batch(*few))

    def _critics(self) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """All critics, each with its optimiser."""
        return [(self.critic, self.value_optimizer)]

    def _fit_critics(
        self, batch: Any, orders: Any, numbers: StepNumbers
    ) -> list[ValueFit]:
        """Fit all critics in place, in the same order of samples."""
        return [self._fit_critic(*self._critics()[0], batch, orders, numbers)]

    def _fit_critic(
        self,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        orders: Any,
        numbers: StepNumbers,
    ) -> ValueFit:
        """Fit a critic in place."""
        batch = batch._replace(obs=self._encoded(batch.obs))
        options = self.config.step_options()
        loss = fast_loss_and_gradient if self._fast[1] else loss_and_gradient
        return fit_critic(critic, optimizer, batch, orders, options, numbers, loss)

    def _is_sound(self, theta: Tensor, value_loss: Any) -> bool:
        """Whether all that is about to be committed is finite."""
        tensors = [theta, value_loss]
        for critic, optimizer in self._critics():
            slots = [slot for of in optimizer.state.values() for slot in of.values()]
            tensors += critic.parameters()
            tensors += [slot for slot in slots if slot is not None]
        # One answer for all: the host waits for each.
        return bool(torch.stack([torch.isfinite(t).all() for t in tensors]).all())

    def learned(self) -> dict[str, Tensor]:
        return self._copies(_clone)

    def restore(self, learned: dict[str, Tensor]) -> None:
        self.load(learned)

    def _copies(self, copy: state.Copy) -> dict[str, Any]:
        """Weights and optimiser under canonical names."""
        return {
            **state.network_arrays(self.policy, "policy.", copy),
            **state.network_arrays(self.critic, "value.", copy),
            **state.optimizer_arrays(self.value_optimizer, self.critic, copy),
        }

    def arrays_of(self, learned: dict[str, Tensor]) -> dict[str, np.ndarray]:
        return {name: to_array(tensor) for name, tensor in learned.items()}

    def load(self, arrays: Mapping[str, Any]) -> None:
        state.load_network(self.policy, arrays, "policy.")
        state.load_network(self.critic, arrays, "value.")
        state.load_optimizer(self.value_optimizer, self.critic, arrays)


class StateDict(AgentBase):
    """An agent's state in PyTorch's own form, for `torch.save` and its like."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copies, on the host, of what `get_state` returns."""
        return {name: torch.from_numpy(a) for name, a in self.get_state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            ValueError: a name, shape, dtype or value is wrong; it is named, and
                nothing has changed.
        """
        self.set_state({name: on_host(tensor) for name, tensor in state_dict.items()})


class TRPOAgent(StateDict):
    """Trust-region policy optimisation.

    Schulman et al. 2015, "Trust Region Policy Optimization". Arguments and methods are
    those of `trpo.agent.base.AgentBase`, the same in both backends.
    """

    backend_type: type[Backend] = TRPOBackend


# Each once: PyTorch makes a function of it.
_untraced = functools.cache(torch.compiler.disable)


def _clone(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
