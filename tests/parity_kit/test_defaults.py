"""What differs by default is said, and nothing that doesn't."""

import functools
import json

import flax.linen
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from parity_kit import defaults


def said(torch_side, jax_side, torch_call=None, jax_call=None):
    facts = [
        defaults.torch_facts(torch_side, torch_call),
        defaults.jax_facts(jax_side, jax_call),
    ]
    found = json.loads(json.dumps(facts))
    return [
        *defaults.differences(*found),
        *map("remark: {}".format, defaults.remarks(*found)),
    ]


def test_conventions_of_layers_that_differ_by_default():
    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.LayerNorm(8),
        nn.RMSNorm(8), nn.GroupNorm(4, 8), nn.Dropout(0.1),
    )  # fmt: skip
    rngs = nnx.Rngs(0)
    ours = nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, rngs=rngs), nnx.gelu,
        nnx.LayerNorm(8, rngs=rngs), nnx.RMSNorm(8, rngs=rngs),
        nnx.GroupNorm(8, num_groups=4, rngs=rngs),
        nnx.Dropout(0.2, deterministic=True, rngs=rngs),
    )  # fmt: skip
    assert said(theirs, ours) == [
        "convolution: padding is [0, 0] in PyTorch and [1, 1] in JAX",
        "BatchNorm: share of the old average kept is 0.9 in PyTorch and 0.99 in JAX",
        "GELU: form is exact (erf) in PyTorch and approximate (tanh) in JAX",
        "LayerNorm: epsilon is 1e-05 in PyTorch and 1e-06 in JAX",
        "RMSNorm: epsilon is that of the dtype in PyTorch and 1e-06 in JAX",
        "GroupNorm: epsilon is 1e-05 in PyTorch and 1e-06 in JAX",
        "Dropout: rate is 0.1 in PyTorch and 0.2 in JAX",
        "Dropout: active is True in PyTorch and False in JAX",
        "remark: BatchNorm: the running variance is that of a sample (divided by n - "
        "1) in PyTorch and of the batch (by n) in JAX",
    ]


def test_the_same_settings_say_nothing():
    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=0.01).eval(),
        nn.GELU(approximate="tanh"), nn.LayerNorm(8, eps=1e-6), nn.Dropout(0.1).eval(),
    )  # fmt: skip
    rngs = nnx.Rngs(0)
    ours = nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs),
        nnx.BatchNorm(8, use_running_average=True, rngs=rngs), nnx.gelu,
        nnx.LayerNorm(8, rngs=rngs), nnx.Dropout(0.1, deterministic=True),
    )  # fmt: skip
    assert said(theirs, ours) == []


def test_dtypes_and_x64():
    ours = nnx.Linear(2, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert said(nn.Linear(2, 2), ours) == [
        "parameters are float32 in PyTorch and bfloat16 in JAX"
    ]
    ours = nnx.Linear(2, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert said(nn.Linear(2, 2), ours) == [
        "flax's layers compute in bfloat16, PyTorch's in float32"
    ]
    found = said(nn.Linear(2, 2).double(), nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    x64_is_off = not jax.config.jax_enable_x64
    assert any("x64 is off" in sentence for sentence in found) == x64_is_off


def test_functions_and_linen_are_found_by_a_call():
    class Net(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            return flax.linen.gelu(flax.linen.LayerNorm()(flax.linen.Dense(4)(x)))

    x = jnp.ones((2, 3))
    net = Net()
    variables = net.init(jax.random.key(0), x)

    def theirs(x):
        gelu = functools.partial(nn.functional.gelu, approximate="none")
        return gelu(nn.functional.layer_norm(x, (3,)))

    found = said(
        theirs,
        (net, variables),
        lambda: theirs(torch.ones(2, 3)),
        lambda: net.apply(variables, x),
    )
    assert found == [
        "remark: LayerNorm: epsilon is 1e-05 in PyTorch and 1e-06 in JAX",
        "remark: GELU: form is exact (erf) in PyTorch and approximate (tanh) in JAX",
    ]
    exact = defaults.jax_facts(print, lambda: jax.nn.gelu(x, approximate=False))
    assert exact["calls"] == [("GELU", {"form": "exact (erf)"})]
