"""Proof that the PyTorch and JAX backends are the same agent, and each of them right.

Run it as tests (`pytest --pyargs parity_tests`) or as a certificate
(`python -m parity_tests --quick`). What the rings mean is in `README.md` beside this.
"""
