"""What user code may do during training."""
