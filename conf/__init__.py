"""The YAML files that Hydra composes into a run: one folder a group, one file a choice.

A package only so that an installed copy carries its YAML along; there is no code here.
"""
