"""Operator: part of a resized image, without the rest of it."""

from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape, check_size
from .extension import has_kernels, register_fake


def resize_window(
    image: Tensor, size: Tuple[int, int], window: Tuple[int, int, int, int], *, fill: float
) -> Tensor:
    """
    Resize an image bilinearly with aligned corners, and take a window of it.

    Only what the window shows is computed, each pixel as by `resample_aligned`: first along y, then
    along x.

    Args:
        image: (H, W, C) uint8 or float32.
        size: (height, width) that the whole image is resized to.
        window: ``(top, left, height, width)`` in pixels of the resized image. It may reach beyond.
        fill: value of pixels outside of the image.

    Returns:
        (C, height, width) float32 of the window.

    Raises:
        ValueError: if an argument is not as above.
    """
    name = "resize_window"
    check_shape(f"{name}: image", image, ("H", "W", "C"), "(H, W, C)")
    if 0 in image.shape or image.dtype not in (torch.uint8, torch.float32):
        raise ValueError(
            f"{name}: image must be uint8 or float32, of at least one pixel, got "
            f"{tuple(image.shape)} of {image.dtype}"
        )
    check_size(f"{name}: size", size)
    if len(window) != 4 or min(window[2:]) < 1 or max(map(abs, window)) >= 2**31:
        raise ValueError(
            f"{name}: window must be (top, left, height, width) of at least one pixel, got {window}"
        )
    scale = [
        float(torch.tensor(float(old - 1)) / (new - 1)) if new > 1 else 0.0
        for old, new in zip(image.shape[:2], size)
    ]
    if has_kernels(name, image.device.type):
        return torch.ops.deeplab2_d2.resize_window(image, size, scale, window, fill=fill)
    return reference.resize_window(image, size, scale, window, fill=fill)


@register_fake("resize_window")
def _fake(
    image: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    window: Tuple[int, int, int, int],
    *,
    fill: float,
) -> Tensor:
    return image.new_empty((image.shape[2], *window[2:]), dtype=torch.float32)
