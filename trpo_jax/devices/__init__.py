"""Where arrays are and who shares the work: devices, chunks, processes."""
