"""Every setting, what it may be, what can be combined; presets with their reasons."""
