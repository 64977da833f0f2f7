"""Conjugate gradient and line search: they know no policy."""
