"""Shared by all parts of the suite: tolerances, types, the process."""
