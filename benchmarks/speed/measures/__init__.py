"""One module for each kind of measurement, run in a process of its own."""
