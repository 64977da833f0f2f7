"""Trust-region policy optimisation, the same agent in PyTorch and in JAX."""
