"""Compiled training: what it learns and how fast."""
