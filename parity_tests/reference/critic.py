"""The third implementation, continued: the critic's loss and its fit."""

import numpy as np

from parity_tests.common.canonical import Arrays, flatten
from parity_tests.reference import networks as reference
from parity_tests.reference.networks import Network, Noise
from parity_tests.reference.problem import Problem
from trpo.config.run import TRPOConfig


ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-5}
ALL = slice(None)


def loss_and_gradient(
    problem: Problem, critic: Network, noise: Noise, rows: np.ndarray | slice = ALL
) -> tuple[float, np.ndarray]:
    """Mean squared error over rows of the batch, and its gradient."""
    obs, returns = problem.batch["obs"][rows], problem.batch["returns"][rows]
    at = reference.forward(critic, obs, noise)
    errors = at.output - returns
    gradient = reference.backward(critic, at, 2.0 * errors / len(obs), noise=noise)
    return float(noise(reference.mean_rows(errors**2, noise))), gradient


def clip(gradient: np.ndarray, max_norm: float) -> np.ndarray:
    """The gradient scaled by min(1, max_norm / (norm + 1e-6))."""
    return gradient * min(1.0, max_norm / (np.linalg.norm(gradient) + 1e-6))


def fit_critic(problem: Problem, noise: Noise) -> tuple[Network, Arrays, np.ndarray]:
    """Critic and optimiser after the update, and the loss of each step."""
    prefix = "value_optimizer."
    names = {n.split(".")[1] for n in problem.state if n.startswith(prefix)} - {"step"}
    slots = {n: flatten(problem.state, f"{prefix}{n}.") for n in sorted(names)}
    step, losses = int(problem.state.get(f"{prefix}step", 0)), []
    critic, config = problem.critic(), problem.config
    for order in problem.orders:
        size = config.value_minibatch_size or len(order)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            loss, gradient = loss_and_gradient(problem, critic, noise, rows)
            gradient, step = noise(clip(gradient, config.max_grad_norm)), step + 1
            losses.append(loss)
            change, slots = _optimize(config, slots, gradient, step, noise)
            critic = Network.from_flat(noise(critic.flat() - change), critic)
    return critic, {**slots, "step": np.array(step)}, np.array(losses)


def _optimize(
    config: TRPOConfig, slots: Arrays, gradient: np.ndarray, step: int, noise: Noise
) -> tuple[np.ndarray, Arrays]:
    """Change of the parameters to subtract, and the optimiser's new slots."""
    if config.optimizer_type == "sgd":
        momentum = noise(config.sgd_momentum * slots["momentum"] + gradient)
        return config.value_lr * momentum, {"momentum": momentum}
    b1, b2 = ADAM["beta_1"], ADAM["beta_2"]
    first = noise(b1 * slots["first_moment"] + (1.0 - b1) * gradient)
    second = noise(b2 * slots["second_moment"] + (1.0 - b2) * gradient**2)
    denominator = np.sqrt(second / (1.0 - b2**step)) + ADAM["epsilon"]
    change = noise(config.value_lr * first / (1.0 - b1**step) / denominator)
    return change, {"first_moment": first, "second_moment": second}
