"""
Maps enlarged to the image, as operations that every exporter writes down.

Functions of the ``graph_`` files take and return tensors whose sizes may be symbols: no size
decides what Python does, no map is made a few rows at a time, and there is neither an operator of
our own nor one that a standard ONNX runtime lacks. Where they say so their values are those of
:mod:`deeplab2_d2.ops`, bit by bit.
"""

from typing import Tuple

import torch
from torch import Tensor

from .geometry import Size

# Channels that are enlarged at a time where only the largest is kept.
CHANNELS_AT_ONCE = 16


def enlarge_aligned(maps: Tensor, stride: int, size: Size) -> Tensor:
    """
    Bilinear enlarging by a whole factor, corner pixels on corner pixels.

    With a power of two as the stride these are the floats of
    :func:`deeplab2_d2.ops.resample_aligned` at scale 1 / stride.

    Args:
        maps: (N, C, h, w) float.
        stride: pixels of the result per pixel of the map, at least 1.
        size: (H, W) of the result, at most ``(h - 1) * stride + 1`` and the same of w.

    Returns:
        (N, C, H, W) float32, the upper left part of the enlarged map.
    """
    maps = maps.float()
    if stride > 1:
        steps = torch.arange(stride, device=maps.device).float() / stride
        above, below = maps[:, :, :-1, None], maps[:, :, 1:, None]
        rows = above + (below - above) * steps[:, None]
        # The last twice: a slice that may be the whole is another graph to torch.export.
        last = maps[:, :, -1:]
        maps = torch.cat((rows.flatten(2, 3), last, last), dim=2)[:, :, : size[0]]
        left, right = maps[..., :-1, None], maps[..., 1:, None]
        columns = left + (right - left) * steps
        last = maps[..., -1:]
        return torch.cat((columns.flatten(3, 4), last, last), dim=3)[..., : size[1]]
    return maps[:, :, : size[0], : size[1]]


def enlarged_argmax(maps: Tensor, stride: int, size: Size) -> Tuple[Tensor, Tensor]:
    """
    The largest channel of each pixel, without the enlarged maps of all channels.

    Args:
        maps, stride, size: as :func:`enlarge_aligned`; the number of channels is no symbol.

    Returns:
        The channel, int64, the first of equal ones, and its value, both (N, H, W).
    """
    largest, channel = enlarge_aligned(maps[:, :CHANNELS_AT_ONCE], stride, size).max(dim=1)
    for first in range(CHANNELS_AT_ONCE, maps.shape[1], CHANNELS_AT_ONCE):
        chunk = maps[:, first : first + CHANNELS_AT_ONCE]
        value, index = enlarge_aligned(chunk, stride, size).max(dim=1)
        is_larger = value > largest
        channel = torch.where(is_larger, index + first, channel)
        largest = torch.where(is_larger, value, largest)
    return channel, largest


def label_table(labels: Tuple[int, ...], index: Tensor) -> Tensor:
    """``labels[index]`` of an integer tensor, int64."""
    return torch.tensor(labels, device=index.device)[index]
