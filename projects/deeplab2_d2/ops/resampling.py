"""Operators: maps at another resolution, and which channel of them is the largest there."""

import math
from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_scale, check_shape, check_size
from .extension import has_kernels, register_fake


def resample_aligned(maps: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    """
    Sample maps at ``(y * scale[0], x * scale[1])`` for every output pixel (y, x), bilinearly.

    First along y, then along x, each as ``a + (b - a) * weight`` with three rounded operations.
    This is how DeepLab2 (``model/utils.py``, ``resize_bilinear``) resizes maps of up to 32
    channels.

    Args:
        maps: (..., h, w) floating point; computed in float32. With a gradient wanted, the reference
            runs, which has one.
        size: ``(H, W)`` of the output.
        scale: ``(scale_y, scale_x)``, source pixels per output pixel, exact in float32, at least 0;
            ``(h - 1) / (H - 1)`` aligns the corners.

    Returns:
        (..., H, W) float32; the maps themselves where they are of that size, and float32.

    Raises:
        ValueError: if an argument is not as above.
    """
    name = "resample_aligned"
    if maps.dim() < 2 or not maps.is_floating_point() or 0 in maps.shape[-2:]:
        raise ValueError(
            f"{name}: maps must be float, (..., h, w) of at least one pixel, got "
            f"{tuple(maps.shape)} of {maps.dtype}"
        )
    check_size(f"{name}: size", size)
    check_scale(f"{name}: scale", scale, size)
    is_identity = maps.shape[-2:] == tuple(size) and tuple(scale) == (1.0, 1.0)
    has_gradient = torch.is_grad_enabled() and maps.requires_grad
    if is_identity or has_gradient or not has_kernels(name, maps.device.type):
        return reference.resample_aligned(maps, size, scale)
    *others, height, width = maps.shape
    planes = maps.reshape(math.prod(others), 1, height, width)
    return torch.ops.deeplab2_d2.resample_aligned(planes, size, scale).view(*others, *size)


def resample_argmax(maps: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    """
    The channel that is the largest after `resample_aligned`, whose result is never in memory.

    Args:
        maps: (N, C, h, w) float, at least one channel; computed in float32.
        size, scale: as in `resample_aligned`.

    Returns:
        (N, H, W) int32: ``resample_aligned(maps, size, scale).argmax(dim=1)``. Ties go to the
        smaller channel; a pixel with a NaN has the first such channel.

    Raises:
        ValueError: if an argument is not as above.
    """
    name = "resample_argmax"
    check_shape(f"{name}: maps", maps, ("N", "C", "h", "w"), "(N, C, h, w)")
    if not maps.is_floating_point() or 0 in maps.shape[1:]:
        raise ValueError(
            f"{name}: maps must be float, of at least one channel and pixel, got "
            f"{tuple(maps.shape)} of {maps.dtype}"
        )
    check_size(f"{name}: size", size)
    check_scale(f"{name}: scale", scale, size)
    if has_kernels(name, maps.device.type):
        return torch.ops.deeplab2_d2.resample_argmax(maps, size, scale)
    return reference.resample_argmax(maps, size, scale)


@register_fake("resample_aligned")
def _fake_aligned(maps: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    return maps.new_empty((*maps.shape[:2], *size), dtype=torch.float32)


@register_fake("resample_argmax")
def _fake_argmax(maps: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    return maps.new_empty((maps.shape[0], *size), dtype=torch.int32)
