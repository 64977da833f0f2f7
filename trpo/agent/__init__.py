"""The part of an agent that needs no framework, and what a backend adds."""
