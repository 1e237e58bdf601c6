"""Imported once by the process that forks all jobs: the modules that every run needs."""

# ruff: noqa: F401

import pandas
import sklearn.datasets
import torch
import torchvision.transforms.v2

import trainer.sweep.check
import trainer.training.loop
import trainer.training.objectives
import trainer.training.run
import trainer.training.state
