"""The runner: composes a run from YAML, trains it, checkpoints it, resumes it. ``python -m trainer --help``"""
