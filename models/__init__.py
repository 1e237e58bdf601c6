"""Networks, one file a family: plain ``nn.Module``s built from ``input_shape`` and ``num_outputs``.

This room knows nothing of data, optimizers or Hydra.
"""

from models.cnn import CNN
from models.mlp import MLP

__all__ = ["CNN", "MLP"]
