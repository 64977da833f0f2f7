"""Recurrent layers, named by strings: each side is imported where it runs."""

from benchmarks.audit.pairs.draws import normal, weights
from parity_kit import Pair


TORCH, JAX = (f"benchmarks.audit.pairs.recurrent_{name}" for name in ("torch", "jax"))
LSTM = weights(input=(20, 3), hidden=(20, 5), input_bias=(20,), hidden_bias=(20,))
GRU = weights(input=(15, 3), hidden=(15, 5), input_bias=(15,), hidden_bias=(15,))

lstm = Pair(
    torch=f"{TORCH}:lstm", jax=f"{JAX}:lstm", inputs=normal((2, 6, 3)), weights=LSTM
)
gru = Pair(
    torch=f"{TORCH}:gru", jax=f"{JAX}:gru", inputs=normal((2, 6, 3)), weights=GRU
)
gru_reset = Pair(
    torch=f"{TORCH}:gru",
    jax=f"{JAX}:gru_of_the_paper",
    inputs=normal((2, 6, 3)),
    weights=GRU,
)
lstm_forget = Pair(
    torch=f"{TORCH}:lstm_step",
    jax=f"{JAX}:lstm_step",
    inputs=normal((4, 3)),
    weights=weights(input=(20, 3), input_bias=(20,)),
)
