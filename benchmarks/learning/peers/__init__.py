"""Peers under the same protocol."""
