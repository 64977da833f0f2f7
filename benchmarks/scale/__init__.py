"""How updates scale with devices: measured here, predicted beyond."""
