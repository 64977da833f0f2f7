"""Measurements: training results, and the demonstration that `make demo` runs."""
