"""PyTorch alone: derivatives by hand and oneDNN's products, on CPUs, by an option.

Automatic differentiation gives the same numbers, and takes longer for small networks.
`agent/` alone chooses between this and the textbook, at two seams: the policy's
function, with its gradient and Jacobian, and the critic's loss and gradient. JAX has no
such folder: XLA compiles `jax.linearize` to as much.
"""
