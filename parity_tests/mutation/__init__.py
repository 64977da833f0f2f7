"""Planted faults, and the command that plants them."""
