"""The same mathematics in NumPy, in float64, written apart."""
