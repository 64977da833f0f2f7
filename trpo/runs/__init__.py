"""The loop on disk: directories, checkpoints, logs, figures; and what runs it."""
