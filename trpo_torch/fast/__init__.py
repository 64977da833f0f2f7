"""PyTorch alone: derivatives by hand and oneDNN's products, on CPUs, by an option.

Automatic differentiation gives the same numbers but for rounding; an update of 2,048
samples by 64-64 units then takes 1.4 to 1.5 times as long (one thread, AMD, paired).
`agent/` alone chooses between this and the textbook, at two seams: the policy's
function, with its gradient and Jacobian, and the critic's loss and gradient. JAX has no
such folder: XLA compiles `jax.linearize` to as much.
"""
