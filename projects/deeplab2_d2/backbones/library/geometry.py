"""What sizes a network takes and gives, found by running it without numbers (meta device)."""

from typing import Optional, Sequence

import torch
from torch import nn

from .network import Grid

# Sides may have to be multiples of the stride times one of these: windows of attention.
_WINDOWS = (1, 7, 8, 16)
# Sides that are 1 + a multiple of 32, and ones that are nothing.
_ANY = ((65, 97), (66, 75))


def find_grid(
    body: nn.Module,
    strides: Sequence[int],
    *,
    is_channels_last: bool,
    in_channels: int,
) -> Optional[Grid]:
    """
    Args:
        body: on the meta device, in evaluation mode: images to maps.
        strides: of the maps.
        is_channels_last: the maps are (N, H, W, C).
        in_channels: of the images.

    Returns:
        The grid of the maps; None if no size was found that it takes.
    """
    if all(_fits(body, size, strides, is_channels_last, in_channels) for size in _ANY):
        return Grid()
    stride = max(strides)
    for window in _WINDOWS:
        side = stride * window
        if _fits(body, (side, 2 * side), strides, is_channels_last, in_channels):
            return Grid(side, stride // 3 if _cuts_patches(body) else 0)
    return None


def _fits(
    body: nn.Module,
    size: Sequence[int],
    strides: Sequence[int],
    is_channels_last: bool,
    in_channels: int,
) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            maps = body(torch.zeros(1, in_channels, *size))
    except (AssertionError, RuntimeError, ValueError):
        # What networks raise for a size that they do not take.
        return False
    start = 1 if is_channels_last else 2
    return all(
        tuple(features.shape[start : start + 2]) == tuple(-(-n // stride) for n in size)
        for features, stride in zip(maps, strides)
    )


def _cuts_patches(body: nn.Module) -> bool:
    """Whether cells begin at their first pixel: the first layer with a stride has no overlap."""
    for module in body.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            kernel, stride = (
                value[0] if isinstance(value, tuple) else value
                for value in (module.kernel_size, module.stride)
            )
            if stride > 1:
                return kernel == stride
    return False
