"""Networks, one file a family: plain ``nn.Module``s built from ``input_shape`` and ``num_outputs``.

This room knows nothing of data, optimizers or Hydra. VGG and ResNet import torchvision, so they are not imported here.
"""

from models.layer_list import LayerList
from models.mlp import MLP, Linear
from models.recurrent import Recurrent

__all__ = ["MLP", "LayerList", "Linear", "Recurrent"]
