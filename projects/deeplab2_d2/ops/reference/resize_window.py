"""Part of a resized image, made of the whole."""

from typing import Sequence, Tuple

import torch
from torch import Tensor

from .resampling import resample_aligned


def resize_window(
    image: Tensor,
    size: Tuple[int, int],
    scale: Sequence[float],
    window: Tuple[int, int, int, int],
    *,
    fill: float,
) -> Tensor:
    """
    See `deeplab2_d2.ops.resize_window`.

    Args:
        scale: of the two axes, source pixels per pixel of the resized image, exact in float32.
    """
    resized = resample_aligned(image.permute(2, 0, 1), size, (scale[0], scale[1]))
    rows, columns = (
        torch.arange(first, first + count, device=image.device)
        for first, count in zip(window[:2], window[2:])
    )
    is_row, is_column = (
        (places >= 0) & (places < side) for places, side in zip((rows, columns), size)
    )
    shown = resized[:, rows.clamp(0, size[0] - 1)][:, :, columns.clamp(0, size[1] - 1)]
    return torch.where(is_row[:, None] & is_column, shown, fill)
