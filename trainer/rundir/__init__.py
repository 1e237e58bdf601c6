"""A run on disk: files, lock, summary, configuration, table. It imports neither torch nor Hydra."""
