"""Resizing of feature maps."""

from typing import Tuple

import torch.nn.functional as F
from torch import Tensor


def resize_align_corners(features: Tensor, size: Tuple[int, int]) -> Tensor:
    """
    Bilinear resizing that maps corner pixels to corner pixels, as everywhere in DeepLab2.

    Args:
        features: (N, C, h, w).
        size: (height, width) of the result.

    Returns:
        (N, C, height, width).
    """
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=True)
