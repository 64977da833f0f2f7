"""The option study."""
