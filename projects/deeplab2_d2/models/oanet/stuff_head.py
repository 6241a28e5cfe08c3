"""The stuff branch."""

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

_Norm = Optional[Union[str, Callable[[int], nn.Module]]]


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2OANetStuffHead(nn.Module):
    """
    Two 3x3 convolutions on each level of the pyramid, their concatenation, 3x3 and 1x1.

    Reference: OANet (arXiv:1903.05027), Sec. 3.1, Fig. 3. Channels, norm and the stride of the
    concatenation are not in the paper.

    It has the interface of Detectron2's ``SemSegFPNHead``.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        channels: int = 128,
        stride: int = 4,
        norm: _Norm = "GN",
        loss_weight: float = 0.25,
        ignore_label: int = 255,
    ):
        """
        Args:
            input_shape: levels of the pyramid.
            num_classes: channels of the prediction.
            channels: of every convolution but the last.
            stride: that of the prediction and of the finest level; others are resized to it.
            norm: after every convolution but the last.
            loss_weight: lambda of Eq. 1.
            ignore_label: of pixels without a class.
        """
        super().__init__()
        levels = sorted(input_shape.items(), key=lambda item: item[1].stride or 0)
        if not levels or levels[0][1].stride != stride:
            strides = {name: shape.stride for name, shape in levels}
            raise ValueError(
                f"the finest level of input_shape must have the stride {stride}, got {strides}"
            )
        self.in_features = [name for name, _ in levels]
        self.stride, self.loss_weight, self.ignore_value = stride, loss_weight, ignore_label
        for name, shape in levels:
            first = _convolution(int(shape.channels or 0), channels, norm)
            self.add_module(name, nn.Sequential(first, _convolution(channels, channels, norm)))
        self.fusion = _convolution(channels * len(levels), channels, norm)
        self.predictor = Conv2d(channels, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in node.IN_FEATURES},
            "num_classes": node.NUM_CLASSES,
            "channels": node.CONVS_DIM,
            "stride": node.COMMON_STRIDE,
            "norm": node.NORM,
            "loss_weight": node.LOSS_WEIGHT,
            "ignore_label": node.IGNORE_VALUE,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Optional[Tensor] = None
    ) -> Tuple[Optional[Tensor], Dict[str, Tensor]]:
        """
        Args:
            features: name to (N, C, h, w).
            targets: (N, H, W) int64, of the network's input; needed in training.

        Returns:
            In training None and ``loss_sem_seg``; else (N, num_classes, H, W) logits and {}.
        """
        logits = self.layers(features)
        if not self.training:
            return self._enlarge(logits), {}
        assert targets is not None
        logits = self._enlarge(logits.float())
        # The mean over no pixel would not be a number.
        num_pixels = (targets != self.ignore_value).sum().clamp(min=1)
        loss = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        return None, {"loss_sem_seg": self.loss_weight * loss / num_pixels}

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """(N, num_classes, h, w) logits at the head's stride."""
        maps: List[Tensor] = []
        for name in self.in_features:
            level = getattr(self, name)(features[name])
            if maps and level.shape[-2:] != maps[0].shape[-2:]:
                size = maps[0].shape[-2:]
                level = F.interpolate(level, size, mode="bilinear", align_corners=False)
            maps.append(level)
        return self.predictor(self.fusion(torch.cat(maps, dim=1)))

    def _enlarge(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)


def _convolution(in_channels: int, channels: int, norm: _Norm) -> nn.Module:
    convolution = Conv2d(
        in_channels,
        channels,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(convolution)
    return convolution
