"""What a run is on disk: its files, lock, summary, configuration, table. Imports neither torch nor Hydra's parts."""
