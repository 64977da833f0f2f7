"""Run directories that a stranger has made."""
