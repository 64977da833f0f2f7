"""The user's own pair of policy networks in whole updates of both backends."""
