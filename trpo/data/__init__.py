"""Rollouts, batches and reports; GAE and running moments."""
