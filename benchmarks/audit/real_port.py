"""A transformer that one library ships for both frameworks: Hugging Face's BERT.

Transformers 4 has `BertModel` (PyTorch) and `FlaxBertModel` (JAX), made here from one
configuration with random weights. In an environment with transformers below 5:

    ENVIRONMENT/bin/python -m parity_kit benchmarks.audit.real_port:bert
"""

# pyright: reportMissingImports=false
import os
from typing import Any

import numpy as np


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
import flax.linen as linen
import jax
import jax.numpy as jnp
import optax
import torch
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_flax_bert import FlaxBertModule

from parity_kit import Pair


LENGTH, LAYERS = 12, 2
CONFIGURATION = BertConfig(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=LENGTH,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    attn_implementation="eager",
)


class TorchBert(torch.nn.Module):
    """PyTorch's: tokens and mask to hidden states and the pooled output."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel(CONFIGURATION).eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple:
        """[B, T, 32] and [B, 32]."""
        output = self.bert(tokens, attention_mask=mask)
        return output.last_hidden_state, output.pooler_output


class FlaxBert(linen.Module):
    """JAX's: tokens and mask to hidden states and the pooled output."""

    def setup(self) -> None:
        """The library's module."""
        self.bert = FlaxBertModule(CONFIGURATION)

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> tuple:
        """[B, T, 32] and [B, 32]."""
        places = jnp.broadcast_to(jnp.arange(tokens.shape[-1]), tokens.shape)
        output = self.bert(tokens, mask, jnp.zeros_like(tokens), places, None)
        return output.last_hidden_state, output.pooler_output


def sentences(seed: int) -> tuple[np.ndarray, ...]:
    """Three sentences of unlike lengths, and the mask of what is not padding."""
    random = np.random.default_rng(seed)
    lengths = random.integers(LENGTH // 2, LENGTH + 1, 3)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    return random.integers(1, 97, (3, LENGTH)) * mask, mask


def torch_loss(output: tuple, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean square of the hidden states less one, padding left out, and the pooled."""
    hidden, pooled = output
    kept = mask.to(hidden.dtype)[..., None]
    return ((hidden - 1.0) ** 2 * kept).mean() + (pooled**2).mean()


def jax_loss(output: tuple, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean square of the hidden states less one, padding left out, and the pooled."""
    hidden, pooled = output
    kept = mask.astype(hidden.dtype)[..., None]
    return ((hidden - 1.0) ** 2 * kept).mean() + (pooled**2).mean()


def weight_map(prefix: str = "bert.") -> dict[str, Any]:
    """PyTorch's names to Flax's: kernels transposed, norms' weights are scales."""
    tables = [f"embeddings.{n}_embeddings" for n in ("word", "position", "token_type")]
    blocks = [f"encoder.layer.{i}" for i in range(LAYERS)]
    norms = ["embeddings.LayerNorm"]
    dense = ["pooler.dense"]
    for block in blocks:
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
        dense += [
            f"{block}.attention.self.{name}" for name in ("query", "key", "value")
        ]
        dense += [f"{block}.attention.output.dense", f"{block}.intermediate.dense"]
        dense += [f"{block}.output.dense"]
    names = {f"{n}.weight": f"{n}.embedding" for n in tables}
    names |= {f"{n}.weight": f"{n}.scale" for n in norms}
    names |= {f"{n}.bias": f"{n}.bias" for n in norms + dense}
    carried: dict[str, Any] = {prefix + name: prefix + to for name, to in names.items()}
    for name in dense:
        kernel = f"{prefix}{name}.kernel"
        carried[f"{prefix}{name}.weight"] = (kernel, "transposed")
    return carried


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """AdamW with its weight decay stated."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)


optax_adamw = optax.adamw(1e-3, weight_decay=0.01)
flax_module = FlaxBert()
flax_bert = (
    flax_module,
    flax_module.init(jax.random.key(0), *(jnp.asarray(a) for a in sentences(0))),
)
bert = Pair(
    torch=TorchBert,
    jax=flax_bert,
    inputs=sentences,
    weights=weight_map(),
    loss=(torch_loss, jax_loss),
    optimizer=(adamw, optax_adamw),
    steps=3,
)
