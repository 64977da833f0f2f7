"""One backend's quantities at the weights and samples of a recorded update."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax.flatten_util import ravel_pytree

from parity_tests.bridges import jax_side as bridge_jax, torch_side as bridge_torch
from parity_tests.common.canonical import Arrays, flatten
from parity_tests.common.process_setup import QUICK
from parity_tests.problems.cases import Case
from parity_tests.problems.golden import GoldenCase
from parity_tests.reference import networks as reference
from parity_tests.reference.networks import Network
from trpo.data.batch import Batch
from trpo.spaces.action_heads import GAUSSIAN
from trpo.spaces.architecture import PLAIN
from trpo_jax.agent import state as jax_state
from trpo_jax.networks.feedforward import policy_function
from trpo_jax.policy_step import fisher as jax_fisher, step as jax_update
from trpo_jax.policy_step.objective import surrogate as jax_surrogate
from trpo_torch.agent.update import (
    is_fast,
    policy_function as torch_policy_function,
)
from trpo_torch.policy_step import fisher as torch_fisher, step as torch_update
from trpo_torch.policy_step.objective import surrogate as torch_surrogate


# The original's: added to both of CG's denominators.
ORIGINAL_EPSILON = 1e-8


def make_agent(kind: Any, case: GoldenCase) -> Any:
    """An agent of the recorded case's sizes and arguments."""
    meta = case.meta
    return kind(
        meta["obs_dim"], meta["act_dim"], -1.0, 1.0, "cpu",
        tuple(meta["policy_layer_sizes"]), tuple(meta["critic_layer_sizes"]),
        dtype=meta["dtype"], **meta["config"],
    )  # fmt: skip


class Probe:
    """One backend at given weights and samples; vectors are canonical NumPy.

    Args:
        framework: "torch" or "jax".
        case: Sizes, dtype and configuration.
        weights: Canonical weights.
        batch: Samples; log-probs and advantages may be [N].
    """

    def __init__(
        self, framework: str, case: GoldenCase, weights: Arrays, batch: Arrays
    ) -> None:
        meta = case.meta
        self.torch = framework == "torch"
        self.dtype = meta["dtype"]
        self.damping = meta["config"].get("cg_damping", 0.1)
        self.cg_iters = meta["config"].get("cg_iters", 10)
        self.case = Case(
            name=case.name, why="recorded", batch=len(batch["obs"]),
            obs_dim=meta["obs_dim"], act_dim=meta["act_dim"],
            layers=tuple(meta["policy_layer_sizes"]),
            distribution=meta.get("distribution", GAUSSIAN),
            action_sizes=tuple(meta.get("action_sizes", ())),
            config=meta.get("networks", ()), images=meta.get("images", ()),
        )  # fmt: skip
        self.theta = flatten(weights, "policy.").astype(self.dtype)
        columns = {n: batch[n] for n in ("obs", "actions", "action_mask") if n in batch}
        for name in ("log_probs", "returns", "advantages"):
            columns[name] = batch[name].reshape(-1, 1)
        self.batch = Batch(**{name: self._in(a) for name, a in columns.items()})
        self.policy, self.unravel = self._policy(weights)
        if self.case.head.family.free_log_std and self.case.architecture == PLAIN:
            self.original = OriginalTerms(weights, batch["obs"])

    def _in(self, array: np.ndarray) -> Any:
        array = np.array(array, dtype=self.dtype)
        return torch.from_numpy(array) if self.torch else jax.numpy.asarray(array)

    def _policy(self, weights: Arrays) -> tuple[Callable, Callable | None]:
        case = self.case
        of_batch = (self.batch.obs, self.batch.action_mask)
        if self.torch:
            module = bridge_torch.make_policy(case, self.dtype)
            asked = dict(case.config).get("fast_products", "auto")
            fast = is_fast(asked, module, torch.device("cpu"))
            return torch_policy_function(module, *of_batch, fast=fast), None
        tree = jax_state.load_network(weights, "policy.")
        unravel = ravel_pytree(jax.tree.map(self._in, tree))[1]
        obs, mask = of_batch
        kind = case.architecture
        function = policy_function(case.obs_dim, case.layers, case.head, kind)
        return lambda theta: function(unravel(theta), obs, mask), unravel

    def _flat_in(self, vector: np.ndarray) -> Any:
        if not self.torch:
            vector = bridge_jax.jax_order(self.case, np.asarray(vector))
        return self._in(vector)

    def _flat_out(self, vector: Any) -> np.ndarray:
        if self.torch:
            return vector.detach().numpy()
        return flatten(jax_state.network_arrays(self.unravel(vector), "x."), "x.")

    def forward(self) -> Arrays:
        """Mean, log_std, surrogate and ratio."""
        theta = self._flat_in(self.theta)
        gaussian, before = self._compiled(self._forward)(theta)
        fields = {"mean": gaussian.mean, "log_std": gaussian.log_std}
        fields |= {"surrogate": before.value, "ratio": before.ratio}
        return {
            name: array.detach().numpy() if self.torch else np.asarray(array)
            for name, array in fields.items()
        }

    def _forward(self, theta: Any) -> tuple:
        gaussian = self.policy(theta)
        surrogate = torch_surrogate if self.torch else jax_surrogate
        return gaussian, surrogate(gaussian, self.batch)

    def _compiled(self, function: Callable) -> Callable:
        return function if self.torch else jax.jit(function, compiler_options=QUICK)

    def gradient(self) -> np.ndarray:
        """The surrogate's gradient."""
        update = torch_update if self.torch else jax_update

        def gradient(theta: Any) -> Any:
            return update.surrogate_and_gradient(self.policy, theta, self.batch)[2]

        return self._flat_out(self._compiled(gradient)(self._flat_in(self.theta)))

    @functools.lru_cache  # noqa: B019 - a probe lives as long as the tests
    def product(self, route: str = "gauss_newton") -> Callable:
        """v -> (F + damping) v on the backend's own vectors."""
        products = (torch_fisher if self.torch else jax_fisher).FISHER_PRODUCTS
        theta = self._flat_in(self.theta)
        if self.torch:
            return products[route](self.policy, theta, self.damping)
        return self._compiled(
            lambda v: products[route](self.policy, theta, self.damping)(v)
        )

    def fisher(self, vector: np.ndarray, route: str = "gauss_newton") -> np.ndarray:
        """(F + damping) vector."""
        return self._flat_out(self.product(route)(self._flat_in(vector)))

    def nearby_kl(self, delta: np.ndarray) -> np.ndarray:
        """KL(old || new) [N, 1] of a change of the parameters."""
        kl = self._compiled(lambda a, b: self.policy(a).kl(self.policy(b)))(
            *map(self._flat_in, self._moved(delta))
        )
        return kl.detach().numpy() if self.torch else np.asarray(kl)

    def recorded_kl(self, delta: np.ndarray) -> np.ndarray:
        """The original's formula of `nearby_kl`, in the arithmetic of its recording.

        It subtracts numbers near 1/2, so that in float32 its roundings are 9e-5 of the
        result. They depend on means and log_std alone, which are this backend's.
        """
        (m, log_s), (new_m, new_log_s) = (
            [self._as_torch(field) for field in (at.mean, at.log_std)]
            for at in map(self.policy, map(self._flat_in, self._moved(delta)))
        )
        square = log_s.exp().pow(2) + (m - new_m).pow(2)
        ratio = square / (2 * new_log_s.exp().pow(2) + ORIGINAL_EPSILON)
        return (new_log_s - log_s + ratio - 0.5).sum(-1, keepdim=True).numpy()

    def _moved(self, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.theta, self.theta + delta

    def _as_torch(self, array: Any) -> torch.Tensor:
        return array.detach() if self.torch else torch.tensor(np.array(array))

    def kl_gradient(self, theta: np.ndarray) -> np.ndarray:
        """Gradient of mean KL(old || new) in the new parameters `theta`."""
        old = self.policy(self._flat_in(self.theta))
        at = self._flat_in(theta)
        if self.torch:
            old = type(old)(*(output.detach() for output in old))
            at.requires_grad_()
            (gradient,) = torch.autograd.grad(old.kl(self.policy(at)).mean(), at)
        else:
            gradient = jax.grad(lambda flat: old.kl(self.policy(flat)).mean())(at)
        return self._flat_out(gradient)

    def original_cg(self, b: np.ndarray) -> np.ndarray:
        """The original's conjugate gradient, on this backend's products.

        It differs from ours by 1e-8 in both denominators, so it is written out here.
        """
        x, r, p = np.zeros_like(b), b.copy(), b.copy()
        rr = r @ r
        for _ in range(self.cg_iters):
            a_p = self.fisher(p) + self.original.fisher_excess(p)
            alpha = rr / (p @ a_p + ORIGINAL_EPSILON)
            x, r = x + alpha * p, r - alpha * a_p
            rr_next = r @ r
            if rr_next < 1e-10:
                break
            p = r + rr_next / (rr + ORIGINAL_EPSILON) * p
            rr = rr_next
        return x.astype(b.dtype)


class OriginalTerms:
    """Effect of the original's epsilon on KL and Fisher products.

    Its KL is log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2 + 1e-8) - 1/2 in each dimension;
    ours has no epsilon.
    """

    def __init__(self, weights: Arrays, obs: np.ndarray) -> None:
        self.obs = np.asarray(obs, np.float64)
        exact = {name: np.asarray(a, np.float64) for name, a in weights.items()}
        self.network = Network.policy(exact)
        self.at = reference.forward(self.network, self.obs)

    def kl(self, delta: np.ndarray) -> np.ndarray:
        """Original's KL in float64, [N, 1], of a change of the parameters."""
        moved = Network.from_flat(self.network.flat() + delta, self.network)
        new = reference.forward(moved, self.obs)
        square = np.exp(2.0 * self.at.log_std) + (new.output - self.at.output) ** 2
        ratio = square / (2.0 * np.exp(2.0 * new.log_std) + ORIGINAL_EPSILON)
        each = new.log_std - self.at.log_std + ratio - 0.5
        return each.sum(-1, keepdims=True)

    def kl_excess(self, delta: np.ndarray) -> np.ndarray:
        """Original's KL less ours, [N, 1], of a change of the parameters."""
        moved = Network.from_flat(self.network.flat() + delta, self.network)
        new = reference.forward(moved, self.obs)
        square = np.exp(2.0 * self.at.log_std) + (new.output - self.at.output) ** 2
        ours = 2.0 * np.exp(2.0 * new.log_std)
        excess = square * (1.0 / (ours + ORIGINAL_EPSILON) - 1.0 / ours)
        return excess.sum(-1, keepdims=True)

    def fisher_excess(self, v: np.ndarray) -> np.ndarray:
        """Original's Fisher product less ours, [p]."""
        change = Network.from_flat(v, self.network)
        d_mean, d_log_std = reference.tangent(self.network, self.at, change)
        s2 = np.exp(2.0 * self.at.log_std)
        total = 2.0 * s2 + ORIGINAL_EPSILON
        for_mean = 2.0 / total - 1.0 / s2
        # Second derivative of s^2 / (2 exp(2 l) + epsilon) in l, less ours.
        for_log_std = 32.0 * s2**3 / total**3 - 8.0 * s2**2 / total**2 - 2.0
        return reference.backward(
            self.network,
            self.at,
            d_mean * for_mean / len(self.obs),
            d_log_std * for_log_std,
        )
