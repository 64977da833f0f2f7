# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""One-line faults, each of which some implementation of TRPO has had or could have.

A mutant is a file, a piece of its text that occurs once, and what to put there.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One planted fault; `discrete` ones are looked for where actions are choices."""

    name: str
    file: str
    old: str
    new: str
    discrete: bool = False


def _torch(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(f"torch: {name}", f"trpo_torch/{module}.py", old, new)


def _jax(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(f"jax: {name}", f"trpo_jax/{module}.py", old, new)


def _shared(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(f"shared: {name}", f"trpo/{module}.py", old, new)


def _discrete(mutant: Mutant) -> Mutant:
    return mutant._replace(discrete=True)


TORCH = (
    _torch("KL reversed", "objective", "distributions.kl_old_to_new(old, new).mean()",
           "distributions.kl_old_to_new(new, old).mean()"),
    _torch("KL averaged over actions", "gaussian",
           "(-2.0 * d) + z**2)).sum(-1, keepdim=True)",
           "(-2.0 * d) + z**2)).mean(-1, keepdim=True)"),
    _torch("KL lost its 1/2", "gaussian", "return (0.5 * (expm1_minus",
           "return (1.0 * (expm1_minus"),
    _torch("naive KL, cancelling", "numerics",
           "return torch.where(small, 0.5 * near**2 * series, torch.expm1(far) - far)",
           "return torch.exp(t) - 1.0 - t"),
    _torch("no damping in the product", "fisher", "return f_v + damping * v",
           "return f_v"),
    _torch("9 of 10 iterations", "conjugate_gradient", "while num_steps < max_steps and",
           "while num_steps < max_steps - 1 and"),
    _torch("random CG start", "conjugate_gradient", "x, r, p = torch.zeros_like(b), b, b",
           "x, r, p = 1e-4 * torch.randn_like(b), b, b"),
    _torch("1e-8 in CG's denominator", "conjugate_gradient", "alpha = rr / p_a_p",
           "alpha = rr / (p_a_p + 1e-8)"),
    _torch("absolute residual", "policy_update",
           "b = gradient / grad_norm if grad_norm > 0 else gradient", "b = gradient"),
    _torch("step length without damping", "policy_update",
           "x_f_x = inner(cg.x, b - cg.residual)",
           "x_f_x = inner(cg.x, b - cg.residual - config.cg_damping * cg.x)"),
    _torch("step length forgets 2", "policy_update", "torch.sqrt(2.0 * config.target_kl",
           "torch.sqrt(1.0 * config.target_kl"),
    _torch("Fisher on a sample of the rows", "policy_update",
           "product = FISHER_PRODUCTS[config.fisher_product](policy, theta,",
           "product = FISHER_PRODUCTS[config.fisher_product]("
           "lambda t: policy(t)._replace(mean=policy(t).mean[::5]), theta,"),
    _torch("log_std not clamped", "gaussian",
           "return log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)", "return log_std.clone()"),
    _torch("entropy without 1/2", "gaussian",
           "gaussian.log_std + 0.5 * (1.0 + math.log(2 * math.pi))",
           "gaussian.log_std + 0.5 * math.log(2 * math.pi)"),
    _torch("log-prob by division by variance", "gaussian",
           "z = (actions - gaussian.mean) * torch.exp(-gaussian.log_std)\n    terms",
           "z = (actions - gaussian.mean) * torch.exp(-2 * gaussian.log_std)\n    terms"),
    _torch("first candidate skipped", "line_search", "frac = 1.0\n",
           "frac = backtrack_coeff\n"),
    _torch("KL not checked", "line_search",
           "if float(improvement) > 0.0 and float(kl) <= target_kl:",
           "if float(improvement) > 0.0:"),
    _torch("comparison swapped", "line_search", "float(improvement) > 0.0 and",
           "float(improvement) < 0.0 and"),
    _torch("one candidate too few", "line_search", "for j in range(backtrack_iters):",
           "for j in range(backtrack_iters - 1):"),
    _torch("rejected step kept", "line_search",
           "return LineSearchResult(theta, 0.0, zero, zero, False, backtrack_iters)",
           "return LineSearchResult(candidate, 0.0, zero, zero, False, backtrack_iters)"),
    _torch("ratio clipped as in PPO", "objective", "ratio = torch.exp(log_ratio)",
           "ratio = torch.exp(log_ratio).clamp(0.8, 1.2)"),
    _torch("difference of two means", "objective",
           "return (old_ratio * torch.expm1(log_ratio) * batch.advantages).mean()",
           "return (old_ratio * torch.exp(log_ratio) * batch.advantages).mean()"
           " - (old_ratio * batch.advantages).mean()"),
    _torch("sample standard deviation", "policy_update",
           "ratio_std=after.ratio.std(correction=0)", "ratio_std=after.ratio.std()"),
    _torch("Adam's own epsilon", "agent", "ADAM_EPSILON = 1e-5", "ADAM_EPSILON = 1e-8"),
    _torch("gradient clipped by value", "value_update",
           "clip_by_norm(flat, max_grad_norm)", "flat.clamp_(-max_grad_norm, max_grad_norm)"),
    _torch("last minibatch dropped", "value_update",
           "obs.split(minibatch_size), returns.split(minibatch_size), strict=True",
           "obs.split(minibatch_size)[:2], returns.split(minibatch_size)[:2]"),
    _torch("TF32-like rounding of products", "mlp",
           "x = torch.tanh(linear(x, weight, bias))",
           "x = torch.tanh(linear((x * 2**13 + x) - x * 2**13, weight, bias))"),
    _torch("tangent skips the second layer", "mlp",
           "if change is not None:", "if change is not None and i > 1:"),
    _torch("slope of the wrong layer", "mlp",
           "g = _times_slope(g @ layers[i].weight, chunk[i])",
           "g = _times_slope(g @ layers[i].weight, chunk[max(i, 2) - 1])"),
    # OpenAI Baselines accepts a step up to there.
    _torch("KL accepted up to 1.5 times its bound", "policy_update",
           "target_kl=config.target_kl,", "target_kl=1.5 * config.target_kl,"),
    _torch("residual's tolerance not passed on", "policy_update",
           "config.cg_iters, config.cg_residual_tol)", "config.cg_iters, 0.0)"),
    _torch("failed update not undone", "agent",
           "step = _discarded(step)\n                self._set_learned_state(before)",
           "step = _discarded(step)"),
)  # fmt: skip

JAX = (
    _jax("KL reversed", "objective", "distributions.kl_old_to_new(old, new).mean()",
         "distributions.kl_old_to_new(new, old).mean()"),
    _jax("layer transposed", "state",
         'arrays[f"{prefix}layers.{i}.weight"].T.copy()',
         'arrays[f"{prefix}layers.{i}.weight"].reshape('
         'arrays[f"{prefix}layers.{i}.weight"].shape[::-1]).copy()'),
    _jax("damping halved in the product", "fisher", "return f_v + damping * v",
         "return f_v + 0.5 * damping * v"),
    _jax("log_std's Fisher without 2", "gaussian", "log_std=2.0 * tangent.log_std",
         "log_std=1.0 * tangent.log_std"),
    _jax("gradient halved at the clamp", "gaussian",
         "return jnp.where(inside, log_std, bound)",
         "return jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)"),
    _jax("one iteration too many", "conjugate_gradient",
         "(s.num_steps < max_steps) &", "(s.num_steps <= max_steps) &"),
    _jax("iterations counted from one", "conjugate_gradient",
         "return CGResult(end.x, end.r, end.rr, end.num_steps, end.curvature)",
         "return CGResult(end.x, end.r, end.rr, end.num_steps + 1, end.curvature)"),
    _jax("residuals not reorthogonalised", "conjugate_gradient",
         "r = jnp.where(sound, r - (basis @ r) @ basis, s.r)",
         "r = jnp.where(sound, r, s.r)"),
    _jax("negative curvature accepted", "conjugate_gradient",
         "return (curvature > 0) & (curvature < jnp.inf)",
         "return jnp.isfinite(curvature)"),
    _jax("off-by-one backtracking", "line_search", "frac = fracs[s.num_candidates]",
         "frac = fracs[s.num_candidates + 1]"),
    _jax("improvement not checked", "line_search",
         "accepted = (improvement > 0.0) & (kl <= target_kl)",
         "accepted = kl <= target_kl"),
    _jax("rejected step kept", "line_search",
         "theta=jnp.where(accepted, candidate, theta)", "theta=candidate"),
    _jax("wrong status when rejected", "policy_update",
         "sound & ~search.accepted, StepStatus.LINE_SEARCH_EXHAUSTED, trouble",
         "sound & ~search.accepted, StepStatus.ZERO_GRADIENT, trouble"),
    _jax("zero gradient not noticed", "policy_update",
         "grad_norm <= ZERO_GRADIENT_NORM", "grad_norm < 0.0"),
    _jax("step length without damping", "policy_update",
         "x_f_x = inner(cg.x, b - cg.residual)",
         "x_f_x = inner(cg.x, b - cg.residual - config.cg_damping * cg.x)"),
    _jax("activations lose four bits", "mlp", "x = jnp.tanh(x @ weight + bias)",
         "x = jax.lax.reduce_precision(jnp.tanh(x @ weight + bias), "
         "jnp.finfo(x.dtype).nexp, jnp.finfo(x.dtype).nmant - 4)"),
    _jax("bfloat16 products", "device", '"float32": "highest"', '"float32": "bfloat16"'),
    _jax("activations through bfloat16", "mlp", "x = jnp.tanh(x @ weight + bias)",
         "x = jnp.tanh(x @ weight + bias).astype(jnp.bfloat16).astype(x.dtype)"),
    _jax("tangent without its slope", "mlp", "change = change * (1.0 - x * x)",
         "change = change * (1.0 - x)"),
    _jax("transposed product without its slope", "mlp",
         "* (1.0 - inputs[i] * inputs[i])", "* (1.0 - inputs[i])"),
    _jax("clipping without torch's 1e-6", "value_update",
         "(optax.tree.norm(gradient) + 1e-6)", "optax.tree.norm(gradient)"),
    _jax("Adam's own epsilon", "compiled", "ADAM_EPSILON = 1e-5", "ADAM_EPSILON = 1e-8"),
    _jax("last minibatch dropped", "value_update", "if rest:", "if rest and False:"),
    _jax("explained variance with ddof 1", "value_update",
         "variance = returns.var()", "variance = returns.var(ddof=1)"),
    _jax("KL accepted up to 1.5 times its bound", "policy_update",
         "target_kl=config.target_kl,", "target_kl=1.5 * config.target_kl,"),
    _jax("residual's tolerance not passed on", "policy_update",
         "config.cg_iters, config.cg_residual_tol)", "config.cg_iters, 0.0)"),
    _jax("non-finite state committed", "compiled",
         "lambda after, before: jnp.where(sound, after, before), new, state_before",
         "lambda after, before: after, new, state_before"),
    _jax("sum in float32 order", "objective",
         "return (old_ratio * jnp.expm1(log_ratio) * batch.advantages).mean()",
         "return jnp.mean(jnp.exp(log_ratio) * old_ratio * batch.advantages)"
         " - jnp.mean(old_ratio * batch.advantages)"),
)  # fmt: skip

SHARED = (
    _shared("truncation taken for termination", "advantages",
            "live = ~np.asarray(terminated, dtype=bool)",
            "live = ~(np.asarray(terminated, bool) | np.asarray(truncated, bool))"),
    _shared("advantages leak across episodes", "advantages",
            "going_on = live & ~np.asarray(truncated, dtype=bool)", "going_on = live"),
    _shared("gamma forgotten in the trace", "advantages",
            "weights = gamma * gae_lambda * going_on", "weights = gae_lambda * going_on"),
    _shared("normaliser updated by looking", "normalization",
            "scaled = (obs - self.moments.mean) / self.moments.std",
            "self.update(obs); scaled = (obs - self.moments.mean) / self.moments.std"),
    _shared("normalised in the agent's dtype", "normalization",
            "scaled = (obs - self.moments.mean) / self.moments.std",
            "scaled = (obs.astype(dtype) - self.moments.mean.astype(dtype))"
            " / self.moments.std.astype(dtype)"),
    _shared("moments merged without their distance", "normalization",
            "+ delta**2 * (self.count * count / total)", "+ 0.0"),
    _shared("sample standard deviation", "advantages",
            "scaled / np.sqrt(np.mean(scaled**2))", "scaled / np.std(scaled, ddof=1)"),
    _shared("infinities let through", "batch_check", "if not finite.all():",
            "if np.isnan(array).any():"),
    _shared("batch width not checked", "batch_check",
            "if shape != (rows, width) and", "if False and"),
)  # fmt: skip

DISCRETE = tuple(map(_discrete, (
    _torch("choices' KL reversed", "categorical",
           "p = torch.exp(log_probabilities(old))\n    d = _log_ratios(old, new)",
           "p = torch.exp(log_probabilities(new))\n    d = _log_ratios(new, old)"),
    _torch("choices' Fisher without - p p'", "categorical",
           "centered = tangent.logits - (p * tangent.logits).sum(-1, keepdim=True)",
           "centered = tangent.logits"),
    _torch("choices' Fisher not averaged", "categorical",
           "return Categorical(p * centered / p.shape[0])",
           "return Categorical(p * centered)"),
    _torch("missing options take part", "categorical", "MASKED = -1e9",
           "MASKED = -5.0"),
    _torch("cotangents of another choice", "categorical",
           "parts = [u.logits[:, j, :size] for j, size",
           "parts = [u.logits[:, j, -size:] for j, size"),
    _torch("choices' KL cancelling", "categorical",
           "return (p * expm1_minus_argument(d)).sum((-2, -1))[:, None]",
           "return -(p * d).sum((-2, -1))[:, None]"),
    _torch("normaliser of the new policy", "categorical",
           "normalizer = torch.log1p((p * torch.expm1(near)).sum(-1, keepdim=True))",
           "normalizer = torch.log1p((p * near).sum(-1, keepdim=True))"),
    _torch("sampling from the other end", "categorical",
           "cumulative = torch.cumsum(p, -1)",
           "cumulative = torch.cumsum(p.flip(-1), -1)"),
    _torch("switches' KL reversed", "bernoulli", "torch.sigmoid(sign * old.logits)\n",
           "torch.sigmoid(sign * new.logits)\n"),
    _torch("switches' Fisher p for p (1 - p)", "bernoulli",
           "variance = torch.sigmoid(logits) * torch.sigmoid(-logits)",
           "variance = torch.sigmoid(logits)"),
    _torch("entropy of one outcome", "bernoulli", "for signed in (logits, -logits)",
           "for signed in (logits, logits)"),
    _torch("switches' KL of ones alone", "bernoulli", "for sign in (1.0, -1.0)",
           "for sign in (1.0, 1.0)"),
    _jax("choices' KL reversed", "categorical",
         "p = jnp.exp(log_probabilities(old))\n    d = jnp.minimum(_log_ratios(old, new)",
         "p = jnp.exp(log_probabilities(new))\n    d = jnp.minimum(_log_ratios(new, old)"),
    _jax("choices' Fisher without - p p'", "categorical",
         "centered = tangent.logits - (p * tangent.logits).sum(-1, keepdims=True)",
         "centered = tangent.logits"),
    _jax("missing options take part", "categorical", "MASKED = -1e9",
         "MASKED = -5.0"),
    _jax("actions counted from one", "categorical",
         "index = actions.astype(jnp.int32)[..., None]",
         "index = actions.astype(jnp.int32)[..., None] - 1"),
    _jax("entropy averaged over choices", "categorical",
         "return -(jnp.exp(log_p) * log_p).sum((-2, -1))[:, None]",
         "return -(jnp.exp(log_p) * log_p).sum(-1).mean(-1)[:, None]"),
    _jax("far policies as if near", "categorical",
         "return jnp.where(small, change - normalizer, far)",
         "return change - normalizer"),
    _jax("least likely action", "categorical", "jnp.argmax(logits, axis=-1)",
         "jnp.argmin(logits, axis=-1)"),
    _jax("switches' log-probability of ones", "bernoulli",
         "signed = (2.0 * actions - 1.0) * bernoulli.logits",
         "signed = bernoulli.logits"),
    _jax("switches' Fisher p for p (1 - p)", "bernoulli",
         "variance = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)",
         "variance = jax.nn.sigmoid(logits)"),
    _jax("switches sampled upside down", "bernoulli", "(below_one(noise) < ",
         "(below_one(noise) > "),
    _jax("switches' ratio cancelling", "bernoulli",
         "return jnp.where(small, exact, jax.nn.log_sigmoid(new) - "
         "jax.nn.log_sigmoid(old))",
         "return jax.nn.log_sigmoid(new) - jax.nn.log_sigmoid(old)"),
    _shared("start not added", "spaces", "actions = actions + self.action_start",
            "actions = actions + 0 * self.action_start"),
    _shared("actions that don't exist let through", "heads", "if bad.any():",
            "if bad.all():"),
)))  # fmt: skip

MUTANTS = TORCH + JAX + SHARED + DISCRETE
