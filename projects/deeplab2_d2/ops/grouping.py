"""Operator: pixels to their instance centers."""

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake


def group_pixels(centers: Tensor, num_centers: Tensor, offsets: Tensor) -> Tensor:
    """
    Assign each pixel to the center nearest to where its offset points.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.2, simple instance grouping. The squared
    distance is ``dy * dy + dx * dx`` in float32, ``dy = center_y - (y + offset_y)``, each operation
    rounded once.

    Args:
        centers: (N, K, 2) float32 ``(y, x)`` in pixels of this map.
        num_centers: (N,) int32; the first so many rows count.
        offsets: (N, 2, H, W) float ``(dy, dx)`` from each pixel to its center, in pixels of this
            map.

    Returns:
        (N, H, W) int32. Value ``k + 1`` means ``centers[:, k]``; 0 where no center is at a finite
        distance. Ties go to the lowest k.

    Raises:
        ValueError: if a shape is not the one above.
    """
    check_shape("group_pixels: offsets", offsets, ("N", 2, "H", "W"), "(N, 2, H, W)")
    num_images = offsets.shape[0]
    check_shape("group_pixels: centers", centers, (num_images, "K", 2), f"({num_images}, K, 2)")
    check_shape("group_pixels: num_centers", num_centers, (num_images,), f"({num_images},)")
    if has_kernels("group_pixels", offsets.device.type):
        return torch.ops.deeplab2_d2.group_pixels(centers, num_centers, offsets)
    return reference.group_pixels(centers, num_centers, offsets)


@register_fake("group_pixels")
def _fake(centers: Tensor, num_centers: Tensor, offsets: Tensor) -> Tensor:
    num_images, _, height, width = offsets.shape
    return offsets.new_empty(num_images, height, width, dtype=torch.int32)
