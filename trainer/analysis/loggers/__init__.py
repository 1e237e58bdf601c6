"""What a run tells its numbers to besides ``metrics.csv``, and what draws pictures when it ends."""
