"""Command lines and damaged files that nobody thought of: ``python -m tests.fuzz --seconds 600 --seed 7``.

A case is plain data: what lies in the working directory, what is done to its files, and a command. ``cases.py`` has
Hypothesis draw them, ``harm.py`` damages files, ``workshop.py`` runs each command in a fork of one warm process, and
``judge.py`` says what is wrong with how it ended.
"""
