"""Faults planted in a function that is to be proved: a proof has to see them."""
