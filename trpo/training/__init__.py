"""The loop in memory."""
