"""Panoptic-DeepLab's targets of one segment map, in NumPy: DeepLab2's ``sample_generator.py``."""

from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from ..results import TargetMaps


def panoptic_targets(
    segment_map: Tensor,
    semantic: Tensor,
    is_instance: Tensor,
    is_crowd: Tensor,
    window: Tensor,
    *,
    window_before: int,
    ignore_label: int,
    small_instance_area: int,
    small_instance_weight: float,
) -> TargetMaps:
    """See `deeplab2_d2.ops.panoptic_targets`."""
    # Gathering by native integers is more than twice as fast.
    labels = segment_map.numpy().astype(np.intp)
    has_center, is_shared = is_instance.numpy(), is_crowd.numpy()
    areas, centers = segment_centers(labels, len(semantic))
    weights = np.where(has_center & (areas < small_instance_area), small_instance_weight, 1.0)

    def spread(values: np.ndarray, unlabeled: float) -> np.ndarray:
        table = np.concatenate([np.array([unlabeled], dtype=values.dtype), values])
        return table.take(labels)

    arrays = (
        spread(semantic.numpy(), ignore_label),
        spread(weights.astype(np.float32), 1.0),
        draw_windows(
            labels.shape, centers[has_center & (areas > 0)], window.numpy(), window_before
        ),
        spread((~is_shared).astype(np.float32), 0.0),
        offsets_to_points(labels, centers, has_center),
        spread(has_center.astype(np.float32), 0.0),
    )
    return TargetMaps(*(torch.from_numpy(array) for array in arrays))


def segment_centers(segment_map: np.ndarray, num_segments: int) -> Tuple[np.ndarray, np.ndarray]:
    """
    Area and center of mass of every segment.

    Args:
        segment_map: (H, W) int32 in 0 .. ``num_segments``.
        num_segments: length of its table.

    Returns:
        areas: (S,) int64, pixels.
        centers: (S, 2) int64, ``(y, x)`` in pixels of this map, rounded half to even before
            offsets are taken; (0, 0) for a segment without pixels. Sums are exact (float64).
    """
    height, width = segment_map.shape
    # Histograms of each row and each column hold all that the sums need, and are cheap.
    rows = np.repeat(np.arange(height, dtype=np.int64) * (num_segments + 1), width)
    by_row = np.bincount(rows + segment_map.ravel(), minlength=height * (num_segments + 1))
    by_row = by_row.reshape(height, num_segments + 1)[:, 1:]
    columns = np.arange(width, dtype=np.float64)
    sum_x = np.bincount(
        segment_map.ravel(),
        weights=np.broadcast_to(columns, segment_map.shape).ravel(),
        minlength=num_segments + 1,
    )[1:]
    areas = by_row.sum(axis=0)
    sum_y = np.arange(height, dtype=np.int64) @ by_row
    sums = np.stack([sum_y.astype(np.float64), sum_x], axis=1)
    centers = np.rint(sums / np.maximum(areas, 1)[:, None]).astype(np.int64)
    return areas, centers


def draw_windows(
    shape: Tuple[int, ...], centers: np.ndarray, window: np.ndarray, before: int
) -> np.ndarray:
    """
    A window around each center; the larger value wins where they overlap.

    Args:
        shape: (height, width) of the map.
        centers: (K, 2) int64 ``(y, x)`` in pixels of the map.
        window: (n, n) float32 of at least 0.
        before: pixels of the window before the center, in each direction.

    Returns:
        (H, W) float32, 0 where no window reaches.
    """
    heatmap = np.zeros(shape, np.float32)
    for y, x in centers.tolist():
        top, left = y - before, x - before
        bottom, right = min(top + len(window), shape[0]), min(left + len(window), shape[1])
        y0, x0 = max(top, 0), max(left, 0)
        patch = heatmap[y0:bottom, x0:right]
        np.maximum(patch, window[y0 - top : bottom - top, x0 - left : right - left], out=patch)
    return heatmap


def offsets_to_points(
    segment_map: np.ndarray, points: np.ndarray, is_used: np.ndarray
) -> np.ndarray:
    """
    Offset from each pixel to the point of its segment.

    Args:
        segment_map: (H, W) int32.
        points: (S, 2) int64 ``(y, x)``, in pixels of the same frame.
        is_used: (S,) bool; pixels of other segments get 0.

    Returns:
        (2, H, W) float32, ``(dy, dx)``.
    """
    height, width = segment_map.shape
    table = np.concatenate([np.zeros((1, 2)), points]).astype(np.float32)
    used = np.concatenate([[False], is_used]).take(segment_map)
    offsets = np.empty((2, height, width), np.float32)
    positions = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for axis in range(2):
        np.subtract(table[:, axis].take(segment_map), positions[axis], out=offsets[axis])
    offsets *= used
    return offsets
