"""Datasets as tensors with their facts: splits, normalization, augmentation, batches by index.

This room knows nothing of models, optimizers or Hydra. A dataset is one small class over
:class:`data.source.Source` and one file in ``conf/data/``.
"""

from data.augment import Augment
from data.dataset import Batch, Dataset, Facts, augment_seed, epoch_order, normalized
from data.source import Raw, Source

__all__ = ["Augment", "Batch", "Dataset", "Facts", "Raw", "Source", "augment_seed", "epoch_order", "normalized"]
