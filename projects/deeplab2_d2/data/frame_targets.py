"""
Targets that join two frames of a video (Motion-DeepLab, ViP-DeepLab), and depth.

Both frames share one segment table: a segment of it is the same object in both.

Reference: DeepLab2's ``sample_generator.py``, whose numbers these are.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ..ops.reference.targets import offsets_to_points, segment_centers
from ..structures import UNITS_PER_METER
from .segment_map import SegmentTable
from .targets import draw_center_heatmap


@dataclass(frozen=True)
class CenterNoise:
    """
    How centers of the previous frame are disturbed in training, so that the network learns to
    live with its own errors.

    Args:
        offset: standard deviation of the shift, relative to height and width of the object.
        false_positive_rate: probability of a second, wrong center beside an object's.
        false_positive_offset: standard deviation of its shift from the first, likewise.
    """

    offset: float = 0.05
    false_positive_rate: float = 0.2
    false_positive_offset: float = 0.05


@dataclass(frozen=True)
class PreviousCenters:
    """
    Centers of the previous frame.

    Args:
        heatmap: (H, W) float32, an input of the network.
        centers: (S, 2) int64 ``(y, x)`` in pixels, shifted by the noise.
        is_present: (S,) bool, the instances that the previous frame shows.
    """

    heatmap: np.ndarray
    centers: np.ndarray
    is_present: np.ndarray


def previous_centers(
    previous_map: np.ndarray,
    segments: SegmentTable,
    *,
    sigma: float = 8.0,
    noise: Optional[CenterNoise] = None,
    rng: Optional[np.random.Generator] = None,
) -> PreviousCenters:
    """
    Centers of the previous frame's instances and their heatmap.

    Args:
        previous_map: (H, W) int32, segment map of the previous frame.
        segments: the table of both frames.
        sigma: of a center's Gaussian, in pixels.
        noise: None leaves the centers where they are.
        rng: where the noise is drawn from; needed with ``noise``.

    Returns:
        the centers; shifted ones are kept inside the image.
    """
    if noise is not None and rng is None:
        raise ValueError("rng must be given where noise is, got None")
    areas, centers = segment_centers(previous_map, len(segments))
    is_present = segments.is_instance & (areas > 0)
    drawn = centers[is_present]
    if noise is not None and rng is not None:
        last = np.array(previous_map.shape) - 1
        exact, extents = (a[is_present] for a in _exact_places(previous_map, len(segments)))
        shifted = exact + rng.normal(size=exact.shape) * noise.offset * extents
        shifted = np.clip(np.rint(shifted), 0, last).astype(np.int64)
        wrong = shifted + rng.normal(size=exact.shape) * noise.false_positive_offset * extents
        wrong = np.clip(np.rint(wrong), 0, last).astype(np.int64)
        centers[is_present] = shifted
        drawn = np.concatenate([shifted, wrong[rng.random(len(wrong)) < noise.false_positive_rate]])
    heatmap = draw_center_heatmap(previous_map.shape, drawn, sigma)
    return PreviousCenters(heatmap, centers, is_present)


def frame_offset_targets(
    segment_map: np.ndarray, previous: PreviousCenters
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Offsets from the pixels of this frame to their object's center in the previous one.

    Args:
        segment_map: (H, W) int32 of this frame.
        previous: centers of the previous frame.

    Returns:
        offsets: (2, H, W) float32 ``(dy, dx)`` in pixels.
        weights: (H, W) float32, 1 where an offset is not (0, 0). So a pixel right on the previous
            center has no weight, as in DeepLab2.
    """
    offsets = offsets_to_points(segment_map, previous.centers, previous.is_present)
    return offsets, np.any(offsets, axis=0).astype(np.float32)


def next_offset_targets(
    segment_map: np.ndarray, next_map: np.ndarray, segments: SegmentTable
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Offsets from the pixels of the next frame to their object's center in this one.

    Args:
        segment_map, next_map: (H, W) int32 of this and of the next frame.
        segments: the table of both.

    Returns:
        offsets: (2, H, W) float32 ``(dy, dx)`` in pixels, in the frame of ``next_map``.
        weights: (H, W) float32, 1 where an offset is not (0, 0).
    """
    areas, centers = segment_centers(segment_map, len(segments))
    offsets = offsets_to_points(next_map, centers, segments.is_instance & (areas > 0))
    return offsets, np.any(offsets, axis=0).astype(np.float32)


def depth_target(depth: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """
    Depth of an image that was scaled: what is larger is nearer.

    Args:
        depth: integer map of depth x ``UNITS_PER_METER``, 0 = unknown, resized (nearest) already.
        scale: by which the image was scaled.

    Returns:
        float32 of the same shape, in the unit of the dataset (meters). The stored integer is cut
        off after the division by the scale.
    """
    scaled = (depth.astype(np.float32) / np.float32(scale)).astype(np.int32)
    return scaled.astype(np.float32) / np.float32(UNITS_PER_METER)


def _exact_places(segment_map: np.ndarray, num_segments: int) -> Tuple[np.ndarray, np.ndarray]:
    """
    Where the segments are.

    Returns:
        centers: (S, 2) float64 ``(y, x)``, centers of mass, not rounded.
        extents: (S, 2) float64, last minus first row and column.
        Both without meaning for a segment without pixels.
    """
    centers, extents = np.zeros((2, num_segments, 2))
    labels = segment_map.astype(np.int64)
    for axis, length in enumerate(segment_map.shape):
        places = np.expand_dims(np.arange(length, dtype=np.int64) * (num_segments + 1), 1 - axis)
        # Pixels of each segment in each row (or column): all that is asked follows from it.
        counts = np.bincount((labels + places).ravel(), minlength=length * (num_segments + 1))
        counts = counts.reshape(length, num_segments + 1)[:, 1:]
        is_there = counts > 0
        centers[:, axis] = np.arange(length) @ counts / np.maximum(counts.sum(axis=0), 1)
        extents[:, axis] = length - 1 - is_there[::-1].argmax(axis=0) - is_there.argmax(axis=0)
    return centers, extents
