"""Resizing of feature maps."""

from typing import Tuple

import torch
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


def resize_offsets(offsets: Tensor, size: Tuple[int, int]) -> Tensor:
    """
    Resize a map of offsets, and the offsets with it.

    Args:
        offsets: (N, 2, h, w), ``(dy, dx)`` in pixels of this map.
        size: (height, width) of the result.

    Returns:
        (N, 2, height, width), in pixels of the result: corner pixels stay corner pixels, so an
        offset grows by ``(height - 1) / (h - 1)``.
    """
    resized = resize_align_corners(offsets, size)
    pairs = zip(size, offsets.shape[-2:])
    scales = [(new - 1) / max(old - 1, 1) for new, old in pairs]
    return resized * torch.tensor(scales, dtype=resized.dtype, device=resized.device).view(2, 1, 1)
