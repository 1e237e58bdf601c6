"""Loggers besides ``metrics.csv``: trackers, and pictures at the end of a run."""
