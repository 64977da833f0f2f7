"""The sixty pairs: where each is from, whether it is equal, and where it parts first.

Truths follow from the source, from analysis by hand, and from a few lines of plain
PyTorch and JAX in float64. They were fixed before the proof first ran on any pair; a
truth that is changed later says why in its own `remark`.
"""

from typing import NamedTuple


FLAX_GUIDE = (
    "https://flax.readthedocs.io/en/stable/migrating/convert_pytorch_to_flax.html"
)
FLAX_API = "https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/"
LINEN_API = "https://flax.readthedocs.io/en/latest/api_reference/flax.linen/"
TORCH_API = "https://docs.pytorch.org/docs/stable/generated/"
JAX_API = "https://docs.jax.dev/en/latest/_autosummary/"
OPTAX_API = "https://optax.readthedocs.io/en/latest/api/"
GITHUB = "https://github.com/"


class Row(NamedTuple):
    """One pair: `module:name` in this folder, and what is true of it.

    `first` is the first stage that differs, or None for an equal pair.
    """

    pair: str
    source: str
    first: str | None
    why: str
    remark: str = ""

    @property
    def truth(self) -> str:
        """What is true of the pair: "equal" or "different"."""
        return "equal" if self.first is None else "different"


EQUAL = [
    Row("layers:linear", f"{FLAX_GUIDE} (FC layers)", None, "kernel transposed"),
    Row(
        "layers:mlp_linen",
        f"{GITHUB}google/flax/issues/963",
        None,
        "linen's layers with PyTorch's weights transposed: rounding alone differs",
    ),
    Row(
        "layers:mlp_equinox",
        "https://docs.kidger.site/equinox/api/nn/mlp/",
        None,
        "Equinox keeps weights as (out, in), as PyTorch does",
    ),
    Row(
        "layers:activations",
        "https://docs.jax.dev/en/latest/jax.nn.html and "
        "https://docs.pytorch.org/docs/stable/nn.functional.html",
        None,
        "mish, selu, celu, hard swish, soft sign, silu, leaky relu: the same formulas",
    ),
    Row(
        "normalisation:layer_norm",
        f"{GITHUB}google/flax/issues/2195",
        None,
        "PyTorch's epsilon 1e-5 given to Flax",
    ),
    Row(
        "normalisation:rms_norm",
        f"{GITHUB}goodfire-ai/spd/pull/820",
        None,
        "Flax's epsilon 1e-6 given to PyTorch",
    ),
    Row(
        "normalisation:group_norm",
        f"{FLAX_API}normalization.html (GroupNorm)",
        None,
        "the same groups of neighbouring channels, PyTorch's epsilon given to Flax",
    ),
    Row(
        "normalisation:batch_norm_eval",
        f"{FLAX_GUIDE} (Batch Norm)",
        None,
        "running statistics in use; momentum 0.9 in Flax is 0.1 in PyTorch",
    ),
    Row(
        "convolutions:conv_and_linear",
        f"{FLAX_GUIDE} (Convolutions and FC Layers)",
        None,
        "features put back to channels first before they are flattened",
    ),
    Row(
        "convolutions:pool",
        f"{GITHUB}google/flax/issues/2448",
        None,
        "count_include_pad=False on both sides",
    ),
    Row(
        "convolutions:resize",
        f"{GITHUB}sayakpaul/cmmd-pytorch/issues/4",
        None,
        "antialias=True given to PyTorch; it is JAX's default",
    ),
    Row(
        "attention:causal_attention",
        f"{LINEN_API}layers.html (dot_product_attention) and {TORCH_API}"
        "torch.nn.functional.scaled_dot_product_attention.html",
        None,
        "only the order of axes differs",
        "written with linen's function: those of jax.nn and nnx take the softmax in "
        "float32 even where everything else is float64",
    ),
    Row(
        "attention:rotary_permuted",
        f"{GITHUB}huggingface/transformers/issues/25199",
        None,
        "the projections' columns are put in the order that halves expect",
    ),
    Row(
        "attention:transformer_block",
        f"{GITHUB}google/gemma_pytorch/issues/33 and {FLAX_GUIDE}",
        None,
        "epsilon and gelu stated; a key's bias has no gradient but rounding",
    ),
    Row(
        "losses:smoothed_cross_entropy",
        f"{OPTAX_API}losses.html (smooth_labels) and {TORCH_API}"
        "torch.nn.CrossEntropyLoss.html",
        None,
        "both spread alpha over all classes",
    ),
    Row(
        "losses:binary_cross_entropy",
        f"{OPTAX_API}losses.html (sigmoid_binary_cross_entropy)",
        None,
        "the same loss by element, averaged on both sides",
    ),
    Row(
        "losses:huber",
        f"{OPTAX_API}losses.html (huber_loss) and {TORCH_API}torch.nn.HuberLoss.html",
        None,
        "the same delta; Huber's loss, not SmoothL1Loss",
    ),
    Row(
        "losses:kl_batch_mean",
        f"{TORCH_API}torch.nn.KLDivLoss.html",
        None,
        "reduction='batchmean' is the mathematical divergence",
    ),
    Row(
        "optimisers:adamw",
        f"{GITHUB}google-deepmind/optax/issues/417",
        None,
        "the same update once the weight decay is stated",
    ),
    Row(
        "optimisers:nesterov",
        f"{TORCH_API}torch.optim.SGD.html and {OPTAX_API}optimizers.html (sgd)",
        None,
        "the same momentum and look ahead",
    ),
    Row(
        "optimisers:rmsprop",
        f"{GITHUB}google-deepmind/optax/issues/532",
        None,
        "decay 0.99 and eps_in_sqrt=False given to optax",
    ),
    Row(
        "optimisers:warmed_sgd",
        f"{OPTAX_API}optimizer_schedules.html (linear_schedule)",
        None,
        "the rate of step n is the schedule at n, counted from zero",
        "the rates are exact in float32, in which optax's schedule counts; after the "
        "first run the count of steps was put into the optimiser's state_dict: left "
        "out of it, a checkpoint loses it, and the pair differed in its state",
    ),
    Row(
        "recurrent:lstm",
        f"{TORCH_API}torch.nn.LSTM.html and {LINEN_API}layers.html (LSTMCell)",
        None,
        "gates in the order input, forget, cell, output; both biases added",
    ),
    Row(
        "recurrent:gru",
        f"{TORCH_API}torch.nn.GRU.html and {LINEN_API}layers.html (GRUCell)",
        None,
        "the reset gate multiplies after the hidden state's product",
    ),
    Row(
        "numerics:out_of_bounds_clipped",
        f"{JAX_API}jax.Array.at.html",
        None,
        "mode='clip' is PyTorch's clamp of the places, in the gradient too",
    ),
    Row(
        "numerics:advantages",
        f"{JAX_API}jax.lax.scan.html and "
        "https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/",
        None,
        "a loop backwards in time and a scan in reverse",
    ),
    Row(
        "numerics:integer_division",
        f"{TORCH_API}torch.remainder.html and {JAX_API}jax.numpy.remainder.html",
        None,
        "both round down and give the remainder the divisor's sign",
    ),
    Row(
        "gradients:clipped_surrogate",
        f"{GITHUB}jax-ml/jax/issues/37821 and {GITHUB}pytorch/pytorch/issues/184572",
        None,
        "at a tie, minimum shares the gradient by halves in both, and both arms agree",
    ),
    Row(
        "gradients:straight_through",
        f"{JAX_API}jax.lax.stop_gradient.html",
        None,
        "rounding held still, the gradient of the identity",
    ),
    Row(
        "state:corrected_average",
        "https://dm-haiku.readthedocs.io/en/latest/api.html (ExponentialMovingAverage)",
        None,
        "an average kept beside the outputs, corrected for its start on both sides",
    ),
]

DIFFERENT = [
    Row(
        "normalisation:layer_norm_defaults",
        f"{FLAX_API}normalization.html (LayerNorm) and {TORCH_API}"
        "torch.nn.LayerNorm.html",
        "defaults",
        "epsilon 1e-5 in PyTorch, 1e-6 in Flax",
    ),
    Row(
        "normalisation:rms_norm_defaults",
        f"{GITHUB}goodfire-ai/spd/issues/730",
        "defaults",
        "epsilon is the type's own spacing in PyTorch, 1e-6 in Flax",
    ),
    Row(
        "normalisation:batch_norm_defaults",
        f"{GITHUB}lukemelas/EfficientNet-PyTorch/issues/3 and {FLAX_GUIDE}",
        "defaults",
        "momentum 0.1 of the new in PyTorch, 0.99 of the old in Flax; numbers part in "
        "the running statistics alone",
    ),
    Row(
        "layers:gelu_defaults",
        f"{GITHUB}google/gemma_pytorch/issues/33",
        "outputs",
        "exact in PyTorch, the tanh approximation in JAX",
    ),
    Row(
        "layers:initial_scale",
        f"{JAX_API}jax.nn.initializers.lecun_normal.html and "
        "https://docs.pytorch.org/docs/stable/nn.init.html (trunc_normal_)",
        "outputs",
        "JAX divides by the deviation that the cut leaves, PyTorch does not",
    ),
    Row(
        "convolutions:flatten_order",
        f"{FLAX_GUIDE} (Convolutions and FC Layers)",
        "outputs",
        "features flattened channels last under weights for channels first",
    ),
    Row(
        "convolutions:pool_padding",
        f"{GITHUB}google/flax/issues/2448 and {GITHUB}google/flax/pull/1848",
        "outputs",
        "padding counts in Flax's mean and not in PyTorch's as it is called",
    ),
    Row(
        "convolutions:transposed_convolution",
        f"{FLAX_GUIDE} (Transposed Convolutions)",
        "outputs",
        "PyTorch turns the kernel over, JAX only with transpose_kernel",
    ),
    Row(
        "recurrent:gru_reset",
        f"{TORCH_API}torch.nn.GRU.html (the note on the original paper)",
        "outputs",
        "the reset gate before the product, as in the paper, or after, as in PyTorch",
    ),
    Row(
        "numerics:deviation",
        f"{TORCH_API}torch.std.html and {JAX_API}jax.numpy.std.html",
        "outputs",
        "n - 1 in PyTorch, n in JAX",
    ),
    Row(
        "attention:rotary_layouts",
        f"{GITHUB}huggingface/transformers/issues/31859",
        "rotated",
        "neighbours turned against each other, or halves; projections alike",
    ),
    Row(
        "attention:alibi_constant",
        f"{GITHUB}ofirpress/attention_with_linear_biases/issues/9",
        "scores",
        "biases that differ by a constant in each row: the softmax does not see it",
    ),
    Row(
        "recurrent:lstm_forget",
        "https://dm-haiku.readthedocs.io/en/latest/api.html (LSTM) and "
        f"{GITHUB}pytorch/pytorch/issues/750",
        "forget",
        "Haiku adds one to the forget gate",
    ),
    Row(
        "losses:kl_mean",
        f"{TORCH_API}torch.nn.KLDivLoss.html",
        "loss",
        "PyTorch's default averages over classes as well",
    ),
    Row(
        "losses:l2_half",
        f"{OPTAX_API}losses.html (l2_loss)",
        "loss",
        "optax's l2_loss is half the square",
    ),
    Row(
        "losses:weighted_cross_entropy",
        f"{GITHUB}pytorch/pytorch/issues/40560",
        "loss",
        "PyTorch divides by the sum of the weights",
    ),
    Row(
        "losses:ignored_rows",
        f"{TORCH_API}torch.nn.CrossEntropyLoss.html (ignore_index)",
        "loss",
        "PyTorch divides by the number of rows with a class",
    ),
    Row(
        "gradients:zero_norm",
        f"{GITHUB}jax-ml/jax/pull/39792 and {GITHUB}pytorch/pytorch/pull/2775",
        "gradient",
        "a norm's gradient at zero: zero in PyTorch, not a number in JAX",
    ),
    Row(
        "gradients:padding_row",
        f"{GITHUB}google/torchax/pull/11",
        "gradient",
        "padding_idx stops the gradient of its row",
    ),
    Row(
        "gradients:clamp_tie",
        f"{GITHUB}jax-ml/jax/issues/37821 and {GITHUB}pytorch/pytorch/issues/184572",
        "gradient",
        "at a tie, clamp passes the whole gradient in PyTorch, maximum half in JAX",
        "the tie is one of construction (a score less itself) and holds for any input",
    ),
    Row(
        "gradients:moving_target",
        f"{JAX_API}jax.lax.stop_gradient.html and "
        "https://docs.jax.dev/en/latest/advanced-autodiff.html (TD(0))",
        "gradient",
        "the target of a temporal difference not held still in JAX",
    ),
    Row(
        "numerics:out_of_bounds",
        f"{GITHUB}google/jax/releases/tag/jax-v0.3.8 and "
        "https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html",
        "gradient",
        "JAX clamps a place behind the end when it reads, and drops it when it adds",
        "meant as an equal pair; plain JAX showed the gradient to differ before the "
        "table was fixed",
    ),
    Row(
        "optimisers:rmsprop_epsilon",
        f"{GITHUB}google-deepmind/optax/issues/532",
        "optimizer",
        "epsilon inside the root in optax, outside in PyTorch",
    ),
    Row(
        "optimisers:clipped_norm",
        f"{GITHUB}goodfire-ai/spd/issues/643",
        "optimizer",
        "PyTorch adds 1e-6 to the norm that it divides by",
    ),
    Row(
        "optimisers:adamw_defaults",
        f"{TORCH_API}torch.optim.AdamW.html and {OPTAX_API}optimizers.html (adamw)",
        "optimizer",
        "weight decay 1e-2 by default in PyTorch, 1e-4 in optax",
    ),
    Row(
        "optimisers:amsgrad",
        f"{GITHUB}google-deepmind/optax/issues/1389",
        "optimizer",
        "the greatest second moment before or after its bias is corrected; from step 2",
    ),
    Row(
        "optimisers:damped_momentum",
        f"{TORCH_API}torch.optim.SGD.html (dampening)",
        "optimizer",
        "PyTorch damps every gradient but the first, optax none; from step 2",
    ),
    Row(
        "normalisation:batch_norm_running_variance",
        f"{GITHUB}pytorch/pytorch/issues/19902 and {FLAX_GUIDE}",
        "state",
        "the running variance takes in n - 1 in PyTorch, n in Flax",
    ),
    Row(
        "state:average_start",
        "https://dm-haiku.readthedocs.io/en/latest/api.html (ExponentialMovingAverage) "
        f"and {TORCH_API}torch.optim.swa_utils.AveragedModel.html",
        "state",
        "an average that starts at zero, corrected for it in JAX alone",
    ),
    Row(
        "state:reversed_momentum",
        f"{GITHUB}huggingface/transformers/pull/19454",
        "state",
        "PyTorch's momentum is the share of the new; carried over as it stands",
    ),
]

ROWS = EQUAL + DIFFERENT
