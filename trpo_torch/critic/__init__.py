"""The critic's regression."""
