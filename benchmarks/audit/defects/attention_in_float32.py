"""`jax.nn.dot_product_attention` computes its softmax in float32, given float64.

    JAX_ENABLE_X64=1 python -m benchmarks.audit.defects.attention_in_float32

Prints its relative error against the same formula in NumPy, about 1e-8 where float64
has 1e-16. `nnx.MultiHeadAttention` takes it wherever there is no dropout.
"""

import jax
import jax.numpy as jnp
import numpy as np


def main() -> None:
    """Compare the two."""
    jax.config.update("jax_enable_x64", True)
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 5, 1, 4))
    logits = np.einsum("btnh,bsnh->bnts", q, k) / 2.0
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    exact = np.einsum("bnts,bsnh->btnh", weights, v)
    found = jax.nn.dot_product_attention(*map(jnp.asarray, (q, k, v)))
    print(f"{found.dtype}: {np.linalg.norm(found - exact) / np.linalg.norm(exact):.1e}")


if __name__ == "__main__":
    main()
