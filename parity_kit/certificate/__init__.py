"""What a proof found, and how it is written down."""
