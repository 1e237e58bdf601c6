"""Pictures of runs (``python -m trainer plot --help``); ``trainer.plot.sweep.sweep_picture`` draws a sweep's."""
