"""Audits: what other libraries compute, proved equal or different."""
