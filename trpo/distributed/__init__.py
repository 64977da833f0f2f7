"""Processes of one run: their places by a launcher, and what they tell each other."""
