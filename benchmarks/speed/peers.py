"""Other libraries' TRPO as subjects: their own update, on our weights and batch.

Only timed, never used. Their updates are called as their training loops call them:
sb3-contrib's `train` on a filled rollout buffer, Tianshou's on a batch with advantages.
"""

# The peers are an optional extra.
# pyright: reportMissingImports=false

import copy
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import Problem, Size, layer_names
from benchmarks.speed.subjects import CG_ITERATIONS, MINIBATCH, SHRINKING
from trpo.config.run import TRPOConfig


LEARNING_RATE = TRPOConfig.value_lr


class Spaces(gymnasium.Env):
    """An environment that is never stepped: the peers ask it for its spaces."""

    def __init__(self, size: Size) -> None:
        wide = {"low": -np.inf, "high": np.inf, "dtype": np.float32}
        self.observation_space = gymnasium.spaces.Box(shape=(size.obs_dim,), **wide)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size.act_dim,), np.float32)


class _Counter:
    """Counts the calls of a method that goes on doing what it did."""

    def __init__(self, owner: Any, name: str) -> None:
        self.calls = 0
        inner = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return inner(*args, **kwargs)

        setattr(owner, name, counted)


class _Peer:
    """Weights in and out of a peer's modules.

    Args:
        networks: canonical prefix -> the linear modules from input to output.
        log_std: the parameter.
        weights: canonical weights to start from.
    """

    def __init__(
        self,
        networks: dict[str, list[torch.nn.Linear]],
        log_std: torch.nn.Parameter,
        weights: dict[str, np.ndarray],
    ) -> None:
        self._parameters: dict[str, torch.Tensor] = {"policy.log_std": log_std}
        for prefix, layers in networks.items():
            names = layer_names(weights, prefix)
            for name, layer in zip(names, layers, strict=True):
                self._parameters[f"{name}.weight"] = layer.weight
                self._parameters[f"{name}.bias"] = layer.bias
        self._weights = weights

    @torch.no_grad()
    def reset(self) -> None:
        """Return to the problem's weights; the optimiser's state does no other work."""
        for name, parameter in self._parameters.items():
            array = torch.from_numpy(self._weights[name])
            parameter.copy_(array.view_as(parameter))

    def state(self) -> dict[str, np.ndarray]:
        """Weights under canonical names."""
        return {
            name: parameter.detach().cpu().numpy().copy()
            for name, parameter in self._parameters.items()
        }


def _linear(*modules: torch.nn.Module) -> list[torch.nn.Linear]:
    """All linear layers in order."""
    found = [part for module in modules for part in module.modules()]
    return [part for part in found if isinstance(part, torch.nn.Linear)]


class StableBaselines(_Peer):
    """sb3-contrib's TRPO: one start product and one step-length product beside CG's.

    Its KL is the mean over action dimensions, where the paper's is the sum, so its
    step differs from everybody else's and has no error to compare.
    """

    def __init__(self, cell: Cell, problem: Problem, epochs: int) -> None:
        import sb3_contrib.trpo.trpo as library
        from sb3_contrib import TRPO
        from sb3_contrib.common.utils import conjugate_gradient_solver
        from stable_baselines3.common.logger import configure

        assert cell.size is not None
        size = cell.size
        self.model = TRPO(
            "MlpPolicy", Spaces(size), learning_rate=LEARNING_RATE,
            n_steps=size.samples, batch_size=MINIBATCH, cg_max_steps=CG_ITERATIONS,
            cg_damping=0.1, line_search_shrinking_factor=SHRINKING,
            n_critic_updates=epochs, normalize_advantage=False, device=cell.device,
            policy_kwargs={"net_arch": list(size.layers)},
        )  # fmt: skip
        self.model.set_logger(configure(None, []))
        policy: Any = self.model.policy
        networks = {
            "policy.": _linear(policy.mlp_extractor.policy_net, policy.action_net),
            "value.": _linear(policy.mlp_extractor.value_net, policy.value_net),
        }
        super().__init__(networks, policy.log_std, problem.weights)
        self._problem = problem
        if cell.mode == "fixed":
            solver = functools.partial(conjugate_gradient_solver, residual_tol=0.0)
            setattr(library, conjugate_gradient_solver.__name__, solver)
        self._products = _Counter(self.model, "hessian_vector_product")
        self._forwards = _Counter(policy, "get_distribution")

    def reset(self) -> None:
        """Return to the weights, and refill the buffer as a rollout would."""
        super().reset()
        buffer: Any = self.model.rollout_buffer
        buffer.reset()
        buffer.observations = self._problem.obs[:, None]
        buffer.actions = self._problem.actions[:, None]
        for name in ("log_probs", "returns", "advantages"):
            setattr(buffer, name, getattr(self._problem, name))
        buffer.values = np.zeros_like(self._problem.returns)
        buffer.full = True
        self._products.calls = self._forwards.calls = 0

    def update(self) -> None:
        """Its `train`, which ends in `.item()` and so waits for the device."""
        self.model.train()

    def work(self) -> dict[str, float]:
        """What the last update did; two forward passes come before the search."""
        return {
            "cg_iterations": float(self._products.calls - 2),
            "candidates": float(self._forwards.calls - 2),
            "accepted": float(self.model.logger.name_to_value[
                "train/is_line_search_success"]),
        }  # fmt: skip


def tianshou_trpo(
    obs_dim: int,
    act_dim: int,
    layers: Sequence[int],
    action_space: gymnasium.Space,
    device: str,
    epochs: int,
) -> tuple[Any, Any, Any]:
    """Tianshou's TRPO, its actor and its critic."""
    from tianshou.algorithm import TRPO
    from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import (
        ContinuousActorProbabilistic,
        ContinuousCritic,
    )

    def hidden() -> Any:
        return Net(
            state_shape=(obs_dim,), hidden_sizes=layers, activation=torch.nn.Tanh
        )

    actor: Any = ContinuousActorProbabilistic(
        preprocess_net=hidden(), action_shape=(act_dim,), unbounded=True
    ).to(device)
    critic: Any = ContinuousCritic(preprocess_net=hidden()).to(device)
    policy = ProbabilisticActorPolicy(
        actor=actor, dist_fn=_gaussian, action_space=action_space,
        action_scaling=False, action_bound_method=None,
    )  # fmt: skip
    algorithm = TRPO(
        policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=LEARNING_RATE),
        optim_critic_iters=epochs, backtrack_coeff=SHRINKING,
    )  # fmt: skip
    return algorithm, actor, critic


class Tianshou(_Peer):
    """Tianshou's TRPO, whose critic takes `epochs` steps on the whole batch.

    It has no minibatches for the critic alone, so it spends the same epochs with
    fewer and larger steps: less work than all others do.
    """

    def __init__(self, cell: Cell, problem: Problem, epochs: int) -> None:
        assert cell.size is not None
        size, spaces = cell.size, Spaces(cell.size)
        self.algorithm, actor, critic = tianshou_trpo(
            size.obs_dim, size.act_dim, size.layers, spaces.action_space, cell.device,
            epochs,
        )  # fmt: skip
        networks = {"policy.": _linear(actor), "value.": _linear(critic)}
        super().__init__(networks, actor.sigma_param, problem.weights)
        self._batch = _tianshou_batch(problem, cell.device)
        if cell.mode == "fixed":
            solver = self.algorithm._conjugate_gradients
            self.algorithm._conjugate_gradients = functools.partial(
                solver, residual_tol=0.0
            )
        self._products = _Counter(self.algorithm, "_MVP")
        self._settings = _Counter(self.algorithm, "_set_from_flat_params")
        self._step_size = 0.0

    def reset(self) -> None:
        """Return to the problem's weights."""
        super().reset()
        self._products.calls = self._settings.calls = 0

    def update(self) -> None:
        """Its update of a batch with advantages; ends in `.item()`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Backtracking to step 1"
            stats = self.algorithm._update_with_batch(self._batch, None, 1)
        self._step_size = stats.step_size.mean

    def work(self) -> dict[str, float]:
        """What the last update did; one product is for the step's length."""
        return {
            "cg_iterations": float(self._products.calls - 1),
            "candidates": float(self._settings.calls),
            "accepted": float(self._step_size > 0),
        }


def _gaussian(mean_and_std: tuple[torch.Tensor, torch.Tensor]) -> Any:
    normal = torch.distributions.Normal(*mean_and_std)
    return torch.distributions.Independent(normal, 1)


def _tianshou_batch(problem: Problem, device: str) -> Any:
    from tianshou.data import Batch

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(copy.copy(array)).to(device)

    return Batch(
        obs=tensor(problem.obs),
        act=tensor(problem.actions),
        logp_old=tensor(problem.log_probs[:, 0]),
        adv=tensor(problem.advantages[:, 0]),
        returns=tensor(problem.returns[:, 0]),
        info=Batch(),
    )


PEERS = {"sb3-contrib": StableBaselines, "tianshou": Tianshou}
