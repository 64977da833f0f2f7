"""Simulated rounding of a function's own operations, in either framework."""
