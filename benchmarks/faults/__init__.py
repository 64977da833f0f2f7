"""Every fault that the project claims to survive, each really made to happen."""
