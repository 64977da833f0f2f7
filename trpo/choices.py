"""What a configuration's fields may be: named choices, and counts."""

from trpo.architecture import ACTIVATIONS
from trpo.heads import POLICY_DISTRIBUTIONS
from trpo.sequences import RECURRENT


CHOICES = {
    "activation": ACTIVATIONS,
    "recurrent": RECURRENT,
    "optimizer_type": ("adam", "sgd"),
    "policy_distribution": POLICY_DISTRIBUTIONS,
    "initialization": ("orthogonal", "torch", "flax"),
    "fisher_product": ("gauss_newton", "kl_hessian"),
    "dtype": ("float32", "float64"),
    "matmul_precision": ("float32", "tf32", "bfloat16"),
}
COUNTS = (
    "recurrent_size", "cg_iters", "backtrack_iters", "value_epochs",
    "value_minibatch_size",
)  # fmt: skip
RUN_COUNTS = (
    "total_steps", "num_envs", "rollout_steps", "checkpoint_interval",
    "keep_checkpoints",
)  # fmt: skip
BACKENDS = ("jax", "torch")
VECTORIZATIONS = ("sync", "async")
