"""The framework-free half of an agent, and the seam to a backend."""
