"""Sixty pairs of PyTorch and JAX code from public sources, half of them equal.

The pairs and their truths (`table.py`) were fixed before the proof first ran on them.
The code is ours; the facts are from the sources the table names.
"""
