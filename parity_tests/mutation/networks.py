# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""Planted faults of networks that are no plain tanh ones; see `mutants.py`."""

from parity_tests.mutation.mutant import in_group, jax as _jax, torch as _torch


NETWORKS = in_group(
    "networks",
    _torch("relu's slope everywhere 1", "fast/mlp:_times_relu_slope", "return g.mul_(y > 0)",
           "return g.mul_(y > -1)"),
    _torch("elu's slope without + 1", "fast/mlp:_times_elu_slope", "y.clamp(max=0.0).add_(1.0)",
           "y.clamp(max=0.0).add_(0.0)"),
    _torch("tanh's approximation of GELU", "networks/feedforward:", '"gelu": functional.gelu,',
           '"gelu": lambda x: functional.gelu(x, approximate="tanh"),'),
    _torch("normalised units not scaled", "networks/feedforward:_layer_norm", "shift.shape, scale, shift,",
           "shift.shape, torch.ones_like(scale), shift,"),
    _torch("epsilon of 1e-6", "networks/feedforward:_layer_norm", "shift, LAYER_NORM_EPSILON)", "shift, 1e-6)"),
    _torch("layers not normalised", "networks/feedforward:_Network._values",
           "norms = _layers(self.norms) if architecture.layer_norm else ()",
           "norms = ()"),
    _jax("relu for elu", "networks/feedforward:", '"elu": jax.nn.elu', '"elu": jax.nn.relu'),
    _jax("tanh's approximation of GELU", "networks/feedforward:", "approximate=False", "approximate=True"),
    _jax("variance of a sample", "networks/feedforward:_layer_norm",
         "variance = (centered * centered).mean(-1, keepdims=True)",
         "variance = x.var(-1, keepdims=True, ddof=1)"),
    _jax("shift forgotten", "networks/feedforward:_layer_norm", "return scaled + shift[None]",
         "return scaled"),
)  # fmt: skip

IMAGES = in_group(
    "images",
    _torch("pixels over 256", "networks/encoder:Encoder.forward", "pixels / PIXEL_SCALE",
           "pixels / 256.0"),
    _torch("flattened channels last", "networks/encoder:Encoder.forward", "x.flatten(1)",
           "x.permute(0, 2, 3, 1).flatten(1)"),
    _torch("features before numbers", "networks/encoder:encode", "torch.cat([*others, *features], 1)",
           "torch.cat([*features, *others], 1)"),
    _torch("features without relu", "networks/encoder:Encoder.forward",
           "return torch.relu(self.output(x.flatten(1)))",
           "return self.output(x.flatten(1))"),
    _jax("pixels not scaled", "networks/encoder:Encoder.__call__", "pixels / PIXEL_SCALE", "pixels"),
    _jax("flattened channels last", "networks/encoder:Encoder.__call__",
         "x.transpose(0, 3, 1, 2).reshape(len(x), -1)", "x.reshape(len(x), -1)"),
    _jax("rows for columns", "networks/encoder:Encoder.__call__", "x.transpose(0, 2, 3, 1)",
         "x.reshape(len(x), *x.shape[2:], x.shape[1])"),
    # What a convolution is to a mathematician: every kernel upside down.
    _jax("kernels mirrored", "agent/state:load_network",
         "array = array.transpose(np.argsort(TO_CANONICAL[array.ndim])).copy()",
         "array = (array[..., ::-1] if array.ndim == 4 else array).transpose("
         "np.argsort(TO_CANONICAL[array.ndim])).copy()"),
)  # fmt: skip
