"""Bilinear resampling with aligned corners, its float32 arithmetic spelled out."""

from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

# Output pixels whose values of all channels are held at a time: 19 channels take 20 MB.
_PIXELS_AT_ONCE = 2**18


def axis_positions(
    first: int, count: int, source_length: int, scale: float, device: torch.device
) -> Tuple[Tensor, Tensor, Tensor]:
    """
    Where the output pixels ``first .. first + count - 1`` of one axis lie in the source.

    The source coordinate is ``float32(i) * scale``, rounded once; it is split into the pixel below,
    the pixel above (both limited to the source) and the weight of the one above.

    Returns:
        ``(lower, upper, weight)``: (count,) int64, int64, float32.
    """
    position = torch.arange(first, first + count, device=device).float() * scale
    lower = position.long().clamp_(max=source_length - 1)
    upper = (lower + 1).clamp_(max=source_length - 1)
    return lower, upper, position - lower.float()


def resample_aligned(
    maps: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    *,
    rows: Optional[Tuple[int, int]] = None,
) -> Tensor:
    """
    See `deeplab2_d2.ops.resample_aligned`.

    Args:
        rows: compute only the output rows ``rows[0] <= y < rows[1]``; all if None.

    Returns:
        (..., H, W) float32, or (..., rows[1] - rows[0], W).
    """
    first, last = (0, size[0]) if rows is None else rows
    maps = maps.float()
    if maps.shape[-2:] == tuple(size) and tuple(scale) == (1.0, 1.0):
        return maps[..., first:last, :]
    lower, upper, weight = axis_positions(
        first, last - first, maps.shape[-2], scale[0], maps.device
    )
    above, below = maps[..., lower, :], maps[..., upper, :]
    maps = above + (below - above) * weight[:, None]
    lower, upper, weight = axis_positions(0, size[1], maps.shape[-1], scale[1], maps.device)
    left, right = maps[..., lower], maps[..., upper]
    return left + (right - left) * weight


def row_blocks(size: Tuple[int, int]) -> Iterator[Tuple[int, int]]:
    """Rows ``first .. last - 1`` of an output of this size that are worked on at a time."""
    num_rows = max(_PIXELS_AT_ONCE // max(size[1], 1), 1)
    for first in range(0, size[0], num_rows):
        yield first, min(first + num_rows, size[0])


def resample_argmax(maps: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    """See `deeplab2_d2.ops.resample_argmax`."""
    blocks = [
        resample_aligned(maps, size, scale, rows=rows).argmax(dim=1) for rows in row_blocks(size)
    ]
    return torch.cat(blocks, dim=1).int()
