"""The third implementation, continued: the critic's losses, and every way to fit it.

Slopes are written out; the inverse Hessian of L-BFGS is a dense matrix here, updated
pair by pair (Nocedal and Wright 2006, eq. 6.17), and a clipped loss is the greater of
two.
"""

import numpy as np

from parity_tests.common.canonical import Arrays, flatten
from parity_tests.reference import networks as reference
from parity_tests.reference.networks import Network, Noise
from parity_tests.reference.problem import Problem
from trpo.config.run import TRPOConfig


ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-5}
DECREASE, SLOPE, TRIALS, MEMORY = 1e-4, 0.9, 20, 10


class CriticProblem:
    """The critic's side of a problem, at rows of its batch.

    Args:
        problem: The problem.
        noise: Simulated rounding.
        rows: Of the batch; all if None.
    """

    def __init__(
        self, problem: Problem, noise: Noise, rows: np.ndarray | None = None
    ) -> None:
        batch, self.config, self.noise = problem.batch, problem.config, noise
        chosen = slice(None) if rows is None else rows
        self.obs, self.returns = batch["obs"][chosen], batch["returns"][chosen]
        self.old = None
        if self.config.value_clip is not None:
            self.old = reference.forward(problem.critic(), self.obs, noise).output

    def rho(self, errors: np.ndarray) -> np.ndarray:
        """The loss of each error."""
        delta, size = self.config.huber_delta, abs(errors)
        if self.config.value_loss == "squared_error":
            return errors**2
        return np.where(size <= delta, size**2, 2.0 * delta * size - delta**2)

    def terms(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Loss, half of its first and half of its second derivative, of each sample."""
        errors, delta = values - self.returns, self.config.huber_delta
        terms, slopes, bends = self.rho(errors), errors, np.ones_like(errors)
        if self.config.value_loss == "huber":
            inside = abs(errors) <= delta
            slopes = np.where(inside, errors, delta * np.sign(errors))
            bends = 1.0 * inside
        if self.old is not None:
            clip = self.config.value_clip
            bound = np.clip(values, self.old - clip, self.old + clip)
            at_bound = self.rho(bound - self.returns)
            held = (bound != values) & (at_bound > terms)
            terms = np.where(held, at_bound, terms)
            slopes, bends = slopes * ~held, bends * ~held
        return terms, slopes, bends

    def loss_and_gradient(self, critic: Network) -> tuple[float, np.ndarray]:
        """Mean loss and its gradient."""
        at = reference.forward(critic, self.obs, self.noise)
        terms, slopes, _ = self.terms(at.output)
        cotangent = 2.0 * slopes / len(self.obs)
        gradient = reference.backward(critic, at, cotangent, noise=self.noise)
        return float(self.noise(reference.mean_rows(terms, self.noise))), gradient


def critic_gradient(problem: Problem, critic: Network, noise: Noise) -> np.ndarray:
    """Gradient of the configured loss over the whole batch."""
    return CriticProblem(problem, noise).loss_and_gradient(critic)[1]


def clip(gradient: np.ndarray, max_norm: float) -> np.ndarray:
    """The gradient scaled by min(1, max_norm / (norm + 1e-6))."""
    return gradient * min(1.0, max_norm / (np.linalg.norm(gradient) + 1e-6))


def fit_critic(problem: Problem, noise: Noise) -> tuple[Network, Arrays, np.ndarray]:
    """Critic and optimiser after the update, and the loss of each step."""
    prefix = "value_optimizer."
    names = {n.split(".")[1] for n in problem.state if n.startswith(prefix)} - {"step"}
    slots = {n: flatten(problem.state, f"{prefix}{n}.") for n in sorted(names)}
    slots["step"] = np.array(problem.state.get(f"{prefix}step", 0))
    if problem.config.value_fit == "gradient":
        return _descend(problem, slots, noise)
    fit = {"gauss_newton": _gauss_newton, "lbfgs": _lbfgs}[problem.config.value_fit]
    theta, losses = fit(problem, noise)
    return Network.from_flat(theta, problem.critic()), slots, np.array(losses)


def _descend(
    problem: Problem, slots: Arrays, noise: Noise
) -> tuple[Network, Arrays, np.ndarray]:
    critic, config = problem.critic(), problem.config
    step, losses = int(slots.pop("step")), []
    for order in problem.orders:
        size = config.value_minibatch_size or len(order)
        for start in range(0, len(order), size):
            some = CriticProblem(problem, noise, order[start : start + size])
            loss, gradient = some.loss_and_gradient(critic)
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


def _gauss_newton(problem: Problem, noise: Noise) -> tuple[np.ndarray, list[float]]:
    whole, critic = CriticProblem(problem, noise), problem.critic()
    config, size, losses = problem.config, len(whole.obs), []
    for _ in range(config.value_epochs):
        at = reference.forward(critic, whole.obs, noise)
        terms, slopes, bends = whole.terms(at.output)
        losses.append(float(noise(reference.mean_rows(terms, noise))))
        downhill = reference.backward(critic, at, -slopes / size, noise=noise)

        def along(v: np.ndarray, critic=critic, at=at) -> np.ndarray:
            return reference.tangent(critic, at, Network.from_flat(v, critic), noise)[0]

        def product(v: np.ndarray, critic=critic, at=at, bends=bends) -> np.ndarray:
            u = bends * along(v) / size
            pulled = reference.backward(critic, at, u, noise=noise)
            return noise(pulled + config.value_damping * v)

        length = np.linalg.norm(downhill)
        step = length * _conjugate_gradient(product, downhill / length, config, noise)
        doubled_variance = 2.0 * np.mean((at.output - whole.returns) ** 2)
        far = np.mean(along(step) ** 2) / doubled_variance
        step = noise(step * min(1.0, np.sqrt(config.value_target_kl / far)))
        theta = critic.flat()
        for j in range(config.backtrack_iters):
            candidate = noise(theta + config.backtrack_coeff**j * step)
            network = Network.from_flat(candidate, critic)
            new = reference.forward(network, whole.obs, noise).output
            better = np.mean(terms - whole.terms(new)[0]) > 0.0
            moved = np.mean((new - at.output) ** 2) / doubled_variance
            if better and moved <= config.value_target_kl:
                critic = network
                break
    return critic.flat(), losses


def _conjugate_gradient(
    product, b: np.ndarray, config: TRPOConfig, noise: Noise
) -> np.ndarray:
    """From 0; residuals are kept orthogonal by Gram-Schmidt."""
    x, r, p, basis = np.zeros_like(b), b, b, []
    while len(basis) < config.cg_iters and r @ r > config.cg_residual_tol:
        before, a_p = r @ r, product(p)
        alpha = noise(before / (p @ a_p))
        basis.append(r / np.sqrt(before))
        x, r = noise(x + alpha * p), noise(r - alpha * a_p)
        q = np.stack(basis)
        r = noise(r - (q @ r) @ q)
        p = noise(r + (r @ r) / before * p)
    return x


def _lbfgs(problem: Problem, noise: Noise) -> tuple[np.ndarray, list[float]]:
    whole, critic = CriticProblem(problem, noise), problem.critic()

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        return whole.loss_and_gradient(Network.from_flat(x, critic))

    return minimize(function, critic.flat(), problem.config.value_epochs, noise)


def minimize(
    function, x: np.ndarray, max_steps: int, noise: Noise = reference.exact
) -> tuple[np.ndarray, list[float]]:
    """L-BFGS with a dense inverse Hessian, and the loss before each step."""
    loss, gradient = function(x)
    pairs, losses = [], []
    for _ in range(max_steps):
        if pairs:
            s, y = pairs[-1]
            inverse = s @ y / (y @ y) * np.eye(len(x))
        else:
            inverse = np.eye(len(x)) / max(1.0, np.linalg.norm(gradient))
        for s, y in pairs[-MEMORY:]:
            projector = np.eye(len(x)) - np.outer(y, s) / (s @ y)
            inverse = projector.T @ inverse @ projector + np.outer(s, s) / (s @ y)
        direction = noise(-inverse @ gradient)
        slope, low, high, t = gradient @ direction, 0.0, np.inf, 1.0
        for _ in range(TRIALS):
            there = noise(x + t * direction)
            new_loss, new_gradient = function(there)
            if new_loss > loss + DECREASE * t * slope:
                high = t
            elif new_gradient @ direction < SLOPE * slope:
                low = t
            else:
                break
            t = (low + high) / 2.0 if np.isfinite(high) else 2.0 * t
        losses.append(loss)
        pairs.append((there - x, new_gradient - gradient))
        x, loss, gradient = there, new_loss, new_gradient
    return x, losses or [loss]
