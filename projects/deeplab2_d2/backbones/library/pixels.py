"""Pixels as a config normalises them to pixels as a library's network has learned with them."""

from dataclasses import dataclass
from typing import Sequence, Tuple

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

# Of ImageNet, in RGB and of pixels from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PixelFormat:
    """
    What images are when they come to a backbone.

    Attributes:
        mean, std: of pixels from 0 to 255, a value for each of the three channels.
        is_bgr: the channels are blue, green and red.
    """

    mean: Tuple[float, ...] = (127.5, 127.5, 127.5)
    std: Tuple[float, ...] = (127.5, 127.5, 127.5)
    is_bgr: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PixelFormat":
        """What MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT say."""
        mean, std = (
            [float(v) for v in values] for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        )
        return cls(tuple(mean[:3]), tuple(std[:3]), cfg.INPUT.FORMAT == "BGR")


class PixelConversion(nn.Module):
    """
    A factor and a summand for each channel; of networks that have learned with the config's pixels
    nothing.

    Channels after the third (a previous frame, a heatmap) stay as they are.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, given: PixelFormat, mean: Sequence[float], std: Sequence[float]):
        """
        Args:
            given: of the images.
            mean, std: that the network has learned with: RGB, of pixels from 0 to 1.
        """
        super().__init__()
        order = [2, 1, 0] if given.is_bgr else [0, 1, 2]
        scale, shift = [], []
        for channel, index in enumerate(order):
            scale.append(given.std[index] / (255.0 * std[channel]))
            shift.append((given.mean[index] - 255.0 * mean[channel]) / (255.0 * std[channel]))
        self.is_bgr = given.is_bgr
        self.is_identity = max(abs(a - 1.0) + abs(b) for a, b in zip(scale, shift)) < 1e-6
        # Of the config, so that no checkpoint has them.
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.is_identity and not self.is_bgr:
            return images
        pixels, others = images[:, :3], images[:, 3:]
        if self.is_bgr:
            pixels = pixels.flip(1)
        if not self.is_identity:
            pixels = pixels * self.scale + self.shift
        return torch.cat([pixels, others], dim=1) if images.shape[1] > 3 else pixels
