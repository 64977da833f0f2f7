"""The certificate that `trpo parity` writes."""
