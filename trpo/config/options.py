"""Keyword options by name and type, for editors and type checkers.

Python itself takes them as they are; a test compares them with the fields they set.
"""

from typing import Literal, TypedDict


class AgentOptions(TypedDict, total=False):
    """Fields of `TRPOConfig` that no argument of an agent has already."""

    activation: Literal["tanh", "relu", "elu", "gelu", "silu"]
    layer_norm: bool
    share_encoder: bool
    recurrent: Literal["none", "gru", "lstm"]
    recurrent_size: int
    initialization: Literal["orthogonal", "torch", "flax"]
    initial_log_std: float
    cg_residual_tol: float
    line_search: Literal["sequential", "none"]
    fisher_product: Literal["gauss_newton", "kl_hessian"]
    fisher_every: int
    entropy_coefficient: float
    cost_limit: float | None
    cost_standard_errors: float
    cost_gamma: float
    cost_lambda: float
    batch_chunk_size: int | None
    matmul_precision: Literal["float32", "tf32", "bfloat16"]
    fast_products: Literal["auto", "on", "off"]


class SpacesOptions(AgentOptions, total=False):
    """What `for_spaces` passes on to an agent."""

    policy_layer_sizes: tuple[int, ...]
    gamma: float
    gae_lambda: float
    normalize_advantages: bool
    target_kl: float
    cg_iters: int
    cg_damping: float
    backtrack_coeff: float
    backtrack_iters: int
    critic_layer_sizes: tuple[int, ...]
    value_lr: float
    value_epochs: int
    value_minibatch_size: int
    max_grad_norm: float
    optimizer_type: Literal["adam", "sgd"]
    sgd_momentum: float
    dtype: Literal["float32", "float64"]
    seed: int
    normalize_observations: bool
    observation_clip: float


class RunOptions(SpacesOptions, total=False):
    """All fields of `TrainConfig` and its parts, but `env_id`."""

    policy_distribution: Literal[
        "gaussian",
        "gaussian_state_std",
        "squashed_gaussian",
        "squashed_gaussian_state_std",
    ]
    backend: Literal["jax", "torch"]
    device: str
    total_steps: int
    num_envs: int
    rollout_steps: int
    policy_network: str | None
    value_network: str | None
    final_target_kl: float | None
    full_radius_advantage_std: float
    final_value_lr: float | None
    modules: tuple[str, ...]
    env_kwargs: dict[str, bool | int | float | str]
    wrapper_class: str | None
    vectorization: Literal["sync", "async", "ray", "envpool"]
    environment_timeout: float
    environment_restarts: int
    omit_observations: tuple[str, ...]
    action_masks: Literal["info", "observation", "method"]
    on_bad_data: Literal["stop", "drop"]
    scale_returns: bool
    eval_episodes: int
    eval_max_steps: int
    eval_interval: int
    eval_interval_steps: int
    eval_interval_episodes: int
    checkpoint_interval: int
    keep_checkpoints: int
    deterministic: bool
    save_best: bool
    stop_at_return: float | None
    video_every: int
    wandb_project: str | None
