"""Hydra finds the launcher and the sweepers of conga here."""
