"""Defects of other packages that the audit met, each by a script of its own."""
