"""
Resizing as DeepLab2 does it: aligned corners, and sizes within a range.

Sizes are computed in float32 as there, for a floor right at an integer depends on it.
"""

from typing import Optional, Tuple

import numpy as np
import torch

from ..ops import resize_window

Size = Tuple[int, int]


def resize_bilinear(image: np.ndarray, size: Size) -> np.ndarray:
    """
    Resize an image bilinearly, the centers of the corner pixels staying in the corners.

    Args:
        image: (H, W, C) float32.
        size: (height, width) wanted.

    Returns:
        (height, width, C) float32, in memory its channels come first; ``image`` itself if it has
        that size already.
    """
    if image.shape[:2] == tuple(size):
        return image
    return resize_and_cut(image, size, (0, 0, *size), fill=0.0)


def resize_and_cut(
    image: np.ndarray, size: Size, window: Tuple[int, int, int, int], *, fill: float
) -> np.ndarray:
    """
    A window of what :func:`resize_bilinear` gives, without the rest.

    Args:
        image: (H, W, C) float32.
        size: (height, width) that the whole image is resized to.
        window: (top, left, height, width) in pixels of the resized image. It may reach beyond.
        fill: value of pixels outside.

    Returns:
        (height, width, C) float32; in memory its channels come first.
    """
    pixels = torch.from_numpy(np.require(image, np.float32, ["C", "W"]))
    return resize_window(pixels, size, window, fill=fill).numpy().transpose(1, 2, 0)


def resize_nearest(labels: np.ndarray, size: Size) -> np.ndarray:
    """
    Resize a label map to the nearest pixel with aligned corners.

    Args:
        labels: (H, W) or (H, W, C), any dtype.
        size: (height, width) wanted.

    Returns:
        the labels at that size; ``labels`` itself if it has that size already. Halfway between
        two pixels the later one is taken.
    """
    if labels.shape[:2] == tuple(size):
        return labels
    rows = nearest_indices(labels.shape[0], size[0])
    columns = nearest_indices(labels.shape[1], size[1])
    return labels.take(rows, axis=0).take(columns, axis=1)


def nearest_indices(source: int, target: int) -> np.ndarray:
    """
    Where :func:`resize_nearest` takes the pixels of an axis from.

    Returns:
        (target,) int64: for each of ``target`` pixels an index into ``source`` ones.
    """
    scale = np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.float32(0)
    positions = np.arange(target, dtype=np.float32) * scale
    # Half away from zero, not numpy's half to even.
    return np.minimum(np.floor(positions + np.float32(0.5)), source - 1).astype(np.int64)


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) times ``scale``, rounded down in float32; at least one pixel."""
    height, width = (int(np.floor(np.float32(n) * np.float32(scale))) for n in size)
    return max(height, 1), max(width, 1)


def size_in_range(
    size: Size,
    min_size: Optional[Size] = None,
    max_size: Optional[Size] = None,
    factor: Optional[int] = None,
) -> Size:
    """
    Size that an image is resized to so that its sides lie in a range, its shape kept.

    The image is scaled (up or down) so that both sides just reach ``min_size``, then down, if
    needed, so that none exceeds ``max_size``, which wins.

    Args:
        size: (height, width) of the image.
        min_size: least (height, width); None or a zero in it: no such bound.
        max_size: greatest (height, width); likewise.
        factor: if given, the result is rounded up to 1 + a multiple of it (``max_size`` is first
            rounded down to one).

    Returns:
        (height, width).
    """
    if min_size is not None and min(min_size) > 0:
        size = scaled_size(size, max(min_size[0] / size[0], min_size[1] / size[1]))
    if max_size is not None and min(max_size) > 0:
        if factor:
            max_size = (
                max_size[0] - (max_size[0] - 1) % factor,
                max_size[1] - (max_size[1] - 1) % factor,
            )
        size = scaled_size(size, min(max_size[0] / size[0], max_size[1] / size[1], 1.0))
    if factor:
        height, width = (n + (factor - (n - 1) % factor) % factor for n in size)
        return height, width
    return size
