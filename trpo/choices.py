"""What a configuration's fields may be: named choices, counts, ranges."""

import math

from trpo.architecture import ACTIVATIONS
from trpo.heads import POLICY_DISTRIBUTIONS
from trpo.sequences import RECURRENT


CHOICES = {
    "activation": ACTIVATIONS,
    "recurrent": RECURRENT,
    "optimizer_type": ("adam", "sgd"),
    "value_loss": ("squared_error", "huber"),
    "value_fit": ("gradient", "gauss_newton", "lbfgs"),
    "policy_distribution": POLICY_DISTRIBUTIONS,
    "initialization": ("orthogonal", "torch", "flax"),
    "fisher_product": ("gauss_newton", "kl_hessian"),
    "preconditioner": ("none", "diagonal", "kronecker"),
    "line_search": ("sequential", "batched", "none"),
    "dtype": ("float32", "float64"),
    "matmul_precision": ("float32", "tf32", "bfloat16"),
}
COUNTS = (
    "recurrent_size", "cg_iters", "backtrack_iters", "value_epochs",
    "fisher_every",
)  # fmt: skip
BOOLS = (
    "layer_norm", "share_encoder", "normalize_advantages", "adaptive_damping",
)  # fmt: skip
POSITIVE = (
    "target_kl", "value_lr", "max_grad_norm", "huber_delta", "value_target_kl",
)  # fmt: skip
# Lowest and highest number that is allowed.
RANGES = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "cost_standard_errors": (0.0, math.inf),
    "cost_gamma": (0.0, 1.0),
    "cost_lambda": (0.0, 1.0),
    "cg_residual_tol": (0.0, math.inf),
    "cg_damping": (0.0, math.inf),
    "entropy_coefficient": (0.0, math.inf),
    "cg_warm_start": (0.0, 1.0),
    "value_damping": (0.0, math.inf),
    "sgd_momentum": (0.0, 1.0),
    "initial_log_std": (-20.0, 2.0),
}
RUN_COUNTS = (
    "total_steps", "num_envs", "rollout_steps", "checkpoint_interval",
    "keep_checkpoints",
)  # fmt: skip
BACKENDS = ("jax", "torch")
VECTORIZATIONS = ("sync", "async", "ray", "envpool")
