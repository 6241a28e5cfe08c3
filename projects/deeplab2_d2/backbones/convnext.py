"""ConvNeXt (arXiv:2201.03545) for dense prediction."""

from typing import Dict, Sequence, Tuple

import numpy as np
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import (
    Activation,
    ConvNeXtBlock,
    convnext_norm,
    initialise_convnext_,
)
from .endpoints import EndpointBackbone
from .family import PREFIX, BackboneFamily, SharedOptions, register_family

OUT_FEATURES = ("res2", "res3", "res4", "res5")

_STEM_STRIDE = 4

# Blocks and channels of the four stages.
CONVNEXTS: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}


class ConvNeXt(EndpointBackbone):
    """
    A stem of stride 4, then stages with layer norm and a 2x2 convolution before each but the first.

    Endpoints are ``stage1`` (the stem) ... ``stage5``, and ``res1`` ... ``res5`` after GELU. As in
    DeepLab2 there is no norm after the last stage.
    """

    pooled_endpoint = "stage5"
    pooled_norm_epsilon = 1e-6

    def __init__(
        self,
        *,
        num_blocks: Sequence[int],
        channels: Sequence[int],
        in_channels: int = 3,
        output_stride: int = 32,
        drop_path_keep_prob: float = 1.0,
        pads_windows: bool = True,
        use_checkpoint: bool = False,
        out_features: Sequence[str] = OUT_FEATURES,
    ):
        """
        Args:
            num_blocks, channels: of the stages.
            in_channels: of the images.
            output_stride: beyond this stride, atrous rates replace strides; a power of 2 from 4 on.
            drop_path_keep_prob: of the last block; it falls linearly from 1 at the first.
            pads_windows: zeros around the map before each convolution with a stride, so that any
                size has features of ceil(size / stride); without them, as in classification,
                pixels at the end are left out that fill no window.
            use_checkpoint: in training, compute the blocks' inner values again in backward.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self.activation = Activation("gelu")
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        keep_probs = iter(np.linspace(1.0, drop_path_keep_prob, sum(num_blocks)).tolist())
        self.endpoint_shapes = {}
        self._add_endpoint(1, channels[0], _STEM_STRIDE)
        stride, rate = _STEM_STRIDE, 1
        for index, (blocks, width) in enumerate(zip(num_blocks, channels)):
            if index == 0:
                layer: nn.Module = Stem(in_channels, width, pads_windows)
            else:
                step = 2 if stride < output_stride else 1
                layer = Downsample(channels[index - 1], width, step, rate, pads_windows)
                stride, rate = stride * step, rate * 2 // step
            self.downsample_layers.append(layer)
            stage = [
                ConvNeXtBlock(
                    width,
                    atrous_rate=rate,
                    drop_path_keep_prob=next(keep_probs),
                    use_checkpoint=use_checkpoint,
                )
                for _ in range(blocks)
            ]
            self.stages.append(nn.Sequential(*stage))
            self._add_endpoint(index + 2, width, stride)
        self.set_out_features(out_features)

    def _add_endpoint(self, number: int, channels: int, stride: int) -> None:
        for prefix in ("stage", "res"):
            self.endpoint_shapes[f"{prefix}{number}"] = ShapeSpec(channels=channels, stride=stride)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        endpoints = {}
        features = images
        for index, (layer, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            features = layer(features)
            if index == 0:
                endpoints["stage1"] = features
            features = stage(features)
            endpoints[f"stage{index + 2}"] = features
        for name in list(endpoints):
            endpoints[name.replace("stage", "res")] = self.activation(endpoints[name])
        return endpoints


class Stem(nn.Sequential):
    """A 4x4 convolution of stride 4, then layer norm; its parts are "0" and "1"."""

    def __init__(self, in_channels: int, channels: int, pads_windows: bool):
        conv = nn.Conv2d(in_channels, channels, _STEM_STRIDE, stride=_STEM_STRIDE)
        initialise_convnext_(conv)
        super().__init__(conv, convnext_norm(channels))
        # A window begins 1 before a pixel and ends 2 behind it.
        self.padding = (1, 2, 1, 2) if pads_windows else (0, 0, 0, 0)

    def forward(self, images: Tensor) -> Tensor:
        return _normalise(self[1], self[0](F.pad(images, self.padding)))


class Downsample(nn.Sequential):
    """Layer norm, then a 2x2 convolution; its parts are "0" and "1"."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, atrous_rate: int, pads_windows: bool
    ):
        conv = nn.Conv2d(in_channels, channels, 2, stride=stride, dilation=atrous_rate)
        initialise_convnext_(conv)
        super().__init__(convnext_norm(in_channels), conv)
        self.padding = (0, atrous_rate, 0, atrous_rate) if pads_windows else (0, 0, 0, 0)

    def forward(self, features: Tensor) -> Tensor:
        # Zeros before the norm, as in DeepLab2: they become its bias.
        return self[1](_normalise(self[0], F.pad(features, self.padding)))


def _normalise(norm: nn.Module, features: Tensor) -> Tensor:
    return norm(features.movedim(1, -1)).movedim(-1, 1)


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Stochastic depth: probability to keep the last block in training; it falls linearly from 1.
    node.DROP_PATH = 1.0
    # Zeros around the maps before each convolution with a stride: features of ceil(size / stride).
    node.PAD_WINDOWS = True
    # Compute the blocks' inner values again in backward, which saves memory.
    node.CHECKPOINT = False


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    if not 0.0 < node.DROP_PATH <= 1.0:
        raise ValueError(f"config key {prefix}DROP_PATH must be in (0, 1], got {node.DROP_PATH!r}")
    for key in ("PAD_WINDOWS", "CHECKPOINT"):
        if not isinstance(node[key], bool):
            raise ValueError(f"config key {prefix}{key} must be a bool, got {node[key]!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> ConvNeXt:
    """
    A network of the family.

    Raises:
        ValueError: for an output stride that needs the padding without it.
    """
    num_blocks, channels = CONVNEXTS[name]
    if shared.output_stride < 32 and not node.PAD_WINDOWS:
        raise ValueError(
            f"config key {PREFIX}{_NODE}.PAD_WINDOWS must be True for an output stride below 32, "
            f"got {node.PAD_WINDOWS!r}"
        )
    return ConvNeXt(
        num_blocks=num_blocks,
        channels=[max(1, int(round(shared.width_multiplier * width))) for width in channels],
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        drop_path_keep_prob=node.DROP_PATH,
        pads_windows=node.PAD_WINDOWS,
        use_checkpoint=node.CHECKPOINT,
    )


_NODE = "CONVNEXT"

register_family(
    BackboneFamily(_NODE, tuple(CONVNEXTS), add_config, check_config, build, {"PAD_WINDOWS": False})
)
