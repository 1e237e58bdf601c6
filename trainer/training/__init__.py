"""Training: a run is assembled, trained, saved and resumed here, and nowhere else."""
