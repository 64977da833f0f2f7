"""Checks of values, files, the terminal, random streams, what frameworks read once."""
