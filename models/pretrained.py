"""Networks with torchvision's parameter names: fitted to other inputs and outputs, published weights, freezing.

Run: ``python -m trainer data=image_folder data.path=photos data.size=224 model=resnet50 model.pretrained=true``
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.layers import output_layer

Pretrained = bool | str
State = dict[str, Tensor]


class Backbone(nn.Module):
    """A network with a first convolution and a last dense layer that depend on the data.

    Args:
        pretrained: true: torchvision's weights for ImageNet, or the path of a file of such weights. The head is drawn
            anew if the number of outputs differs, and the first convolution's kernels are summed over the colours for
            grey images. Downloaded once, checksum compared; a file is loaded with ``weights_only=True``.
        freeze: ``backbone``: trains the last dense layer only. Batch normalization in the rest keeps its statistics.
    """

    head_name: str
    frozen = False

    def adapt(
        self,
        name: str,
        stem_name: str,
        head_name: str,
        channels: int,
        num_outputs: int | dict[str, int],
        pretrained: Pretrained,
        freeze: Literal["none", "backbone"],
    ) -> None:
        """Fits the network to images of `channels` and to its outputs, loads weights, and freezes.

        Args:
            name: torchvision's, whose published weights fit.
            stem_name, head_name: of the first convolution and the last dense layer.

        Raises:
            ValueError: the weights cannot be had, or do not fit.
        """
        self.head_name = head_name
        stem, head = self.get_submodule(stem_name), self.get_submodule(head_name)
        assert isinstance(stem, nn.Conv2d)
        assert isinstance(head, nn.Linear)
        if channels != stem.in_channels:
            same: dict[str, Any] = {name: getattr(stem, name) for name in ("kernel_size", "stride", "padding")}
            stem = nn.Conv2d(channels, stem.out_channels, **same, bias=stem.bias is not None)
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
            if stem.bias is not None:
                nn.init.zeros_(stem.bias)
            self.set_submodule(stem_name, stem)
        if isinstance(num_outputs, dict) or num_outputs != head.out_features:
            self.set_submodule(head_name, output_layer(head.in_features, num_outputs))
        if pretrained is not False:
            self._load(name, stem_name, pretrained)
        elif freeze == "backbone":
            raise ValueError(
                "freeze=backbone: freezes random weights; give model.pretrained, or train.init_from with train.freeze"
            )
        if freeze == "backbone":
            self.frozen = True
            for parameter in self.parameters():
                parameter.requires_grad_(False)
            for parameter in self.get_submodule(head_name).parameters():
                parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Backbone:
        """As for any module; but a frozen backbone stays in evaluation mode: no new statistics, no dropout."""
        super().train(mode and not self.frozen)
        self.training = mode
        if self.frozen:
            self.get_submodule(self.head_name).train(mode)
        return self

    def _load(self, name: str, stem_name: str, pretrained: Pretrained) -> None:
        source = published(name) if pretrained is True else Path(str(pretrained)).expanduser()
        theirs, ours = read_weights(source), self.state_dict()
        stem = f"{stem_name}.weight"
        if stem in theirs and ours[stem].shape[1] == 1 and theirs[stem].ndim == 4:
            theirs[stem] = theirs[stem].sum(1, keepdim=True)
        head = {key for key in ours if key.startswith(f"{self.head_name}.")}
        if any(key not in theirs or theirs[key].shape != ours[key].shape for key in head):
            theirs = {k: v for k, v in theirs.items() if not k.startswith(f"{self.head_name}.")} | {
                k: ours[k] for k in head
            }
        for key, value in ours.items():
            if key not in theirs:
                raise ValueError(f"pretrained={pretrained}: {source} has no {key}; it does not fit this network")
            if theirs[key].shape != value.shape:
                raise ValueError(
                    f"pretrained={pretrained}: {key} is {tuple(theirs[key].shape)} in {source}, "
                    f"and {tuple(value.shape)} in this network"
                )
        unknown = next((key for key in theirs if key not in ours), None)
        if unknown:
            raise ValueError(f"pretrained={pretrained}: this network has no {unknown}, which is in {source}")
        self.load_state_dict(theirs)


def published(name: str, given: str = "pretrained=true") -> Path:
    """torchvision's weights for the network `name`, downloaded to torch's cache unless they are there.

    Args:
        given: the setting that asks for them, for errors.

    Raises:
        ValueError: they cannot be had.
    """
    from torchvision.models import get_model_weights

    url = get_model_weights(name).DEFAULT.url
    file = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        checksum = file.removesuffix(".pth").rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=checksum)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{given}: cannot be downloaded ({reason}); put {url} at {path}") from error
    return path


def read_weights(path: Path, given: str | None = None) -> State:
    """A state dict of tensors; nothing in the file is unpickled.

    Args:
        given: the setting that names the file, for errors; None: ``pretrained``.

    Raises:
        ValueError: no such file, or it holds something else.
    """
    given = given or f"pretrained={path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles, which are refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{given}: no such file; looked for {path.absolute()}") from None
    except Exception as error:  # damage surfaces as many types
        raise ValueError(f"{given}: no file of weights that can be read without unpickling") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):  # a checkpoint of a run
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{given}: holds no weights by name")
    return dict(state)
