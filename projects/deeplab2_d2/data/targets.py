"""
Training targets of Panoptic-DeepLab from a segment map.

Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3, and DeepLab2's ``sample_generator.py``,
whose numbers these are.
"""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np
import torch

from ..ops import has_extension, panoptic_targets
from .segment_map import SegmentTable


@dataclass(frozen=True)
class PanopticTargets:
    """
    Targets in the frame of the crop; points and offsets in its pixels.

    Args:
        sem_seg: (H, W) int64, class id or the ignore label.
        sem_seg_weights: (H, W) float32, 1, or the weight of small instances on their pixels.
        center_heatmap: (H, W) float32 in [0, 1]; None in semantic-only mode, like all below.
        center_weights: (H, W) float32, 0 on crowds and unlabeled pixels, else 1.
        center_offsets: (2, H, W) float32, ``(dy, dx)`` to the center of the pixel's instance;
            0 elsewhere.
        offset_weights: (H, W) float32, 1 on instances (crowds are none), else 0.
    """

    sem_seg: np.ndarray
    sem_seg_weights: np.ndarray
    center_heatmap: Optional[np.ndarray] = None
    center_weights: Optional[np.ndarray] = None
    center_offsets: Optional[np.ndarray] = None
    offset_weights: Optional[np.ndarray] = None

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The entries of a sample; the heatmap has a channel axis."""
        heatmap = self.center_heatmap
        arrays = {
            "sem_seg": self.sem_seg,
            "sem_seg_weights": self.sem_seg_weights,
            "center_heatmap": None if heatmap is None else heatmap[None],
            "center_weights": self.center_weights,
            "center_offsets": self.center_offsets,
            "offset_weights": self.offset_weights,
        }
        return {name: torch.from_numpy(a) for name, a in arrays.items() if a is not None}


class PanopticTargetGenerator:
    """
    Make the targets of one segment map.

    Args:
        ignore_label: of pixels without a class, in ``sem_seg``.
        sigma: standard deviation of a center's Gaussian, in pixels of the crop.
        small_instance_area: an instance with fewer visible pixels is small.
        small_instance_weight: weight of its pixels in the semantic loss.
        ignore_crowd_in_semantic: give crowds the ignore label in ``sem_seg``, else their class.
            DeepLab2 decides it when it converts a dataset (``treat_crowd_as_ignore``, on).
        has_instances: False makes the two semantic targets only.
        use_ops: make all targets with the compiled operator where it is built; the same numbers.
    """

    def __init__(
        self,
        *,
        ignore_label: int,
        sigma: float = 8.0,
        small_instance_area: int = 4096,
        small_instance_weight: float = 3.0,
        ignore_crowd_in_semantic: bool = True,
        has_instances: bool = True,
        use_ops: bool = True,
    ):
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.ignore_label = ignore_label
        self.sigma = sigma
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic
        self.has_instances = has_instances
        self.use_ops = use_ops

    def __call__(
        self, segment_map: np.ndarray, segments: SegmentTable, *, source: str = "image"
    ) -> PanopticTargets:
        """
        Args:
            segment_map: (H, W) int32, 0 = unlabeled, ``k + 1`` = segment ``k``.
            segments: the table of all segments; those cropped away are without effect.
            source: the image; no error names it.

        Returns:
            the targets.
        """
        semantic = segments.category_ids
        if self.ignore_crowd_in_semantic:
            semantic = np.where(segments.is_crowd, self.ignore_label, semantic)
        if self.has_instances and self.use_ops and has_extension():
            return self._generate_compiled(segment_map, segments, semantic)
        # Gathering by native integers is more than twice as fast.
        segment_map = segment_map.astype(np.intp)
        sem_seg = segments.look_up(semantic.astype(np.int64), self.ignore_label).take(segment_map)
        if not self.has_instances:
            return PanopticTargets(sem_seg, np.ones(segment_map.shape, np.float32))

        areas, centers = segment_centers(segment_map, len(segments))
        is_small = segments.is_instance & (areas < self.small_instance_area)
        weights = np.where(is_small, self.small_instance_weight, 1.0).astype(np.float32)
        visible = centers[segments.is_instance & (areas > 0)]
        return PanopticTargets(
            sem_seg=sem_seg,
            sem_seg_weights=segments.look_up(weights, 1.0).take(segment_map),
            center_heatmap=draw_center_heatmap(segment_map.shape, visible, self.sigma),
            center_weights=segments.look_up((~segments.is_crowd).astype(np.float32), 0.0).take(
                segment_map
            ),
            center_offsets=offsets_to_points(segment_map, centers, segments.is_instance),
            offset_weights=segments.look_up(segments.is_instance.astype(np.float32), 0.0).take(
                segment_map
            ),
        )

    def _generate_compiled(
        self, segment_map: np.ndarray, segments: SegmentTable, semantic: np.ndarray
    ) -> PanopticTargets:
        window, before = gaussian_window(self.sigma)
        maps = panoptic_targets(
            torch.from_numpy(np.ascontiguousarray(segment_map, dtype=np.int32)),
            torch.from_numpy(semantic.astype(np.int64)),
            torch.from_numpy(np.asarray(segments.is_instance, dtype=bool)),
            torch.from_numpy(np.asarray(segments.is_crowd, dtype=bool)),
            torch.from_numpy(window),
            window_before=before,
            ignore_label=self.ignore_label,
            small_instance_area=self.small_instance_area,
            small_instance_weight=self.small_instance_weight,
        )
        return PanopticTargets(*(tensor.numpy() for tensor in maps))


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


def draw_center_heatmap(shape: Tuple[int, int], centers: np.ndarray, sigma: float) -> np.ndarray:
    """
    Gaussians around centers; the larger value wins where they overlap.

    Args:
        shape: (height, width) of the map.
        centers: (K, 2) int64 ``(y, x)`` in pixels of the map.
        sigma: standard deviation in pixels. A Gaussian is cut to a window of 6 sigma + 3 pixels.

    Returns:
        (H, W) float32 in [0, 1].
    """
    heatmap = np.zeros(shape, np.float32)
    window, before = gaussian_window(sigma)
    for y, x in centers.tolist():
        top, left = y - before, x - before
        bottom, right = min(top + len(window), shape[0]), min(left + len(window), shape[1])
        y0, x0 = max(top, 0), max(left, 0)
        patch = heatmap[y0:bottom, x0:right]
        np.maximum(patch, window[y0 - top : bottom - top, x0 - left : right - left], out=patch)
    return heatmap


def gaussian_window(sigma: float) -> Tuple[np.ndarray, int]:
    """
    The Gaussian of a center.

    Returns:
        (n, n) float32 with n = int(6 sigma + 3), and how many pixels of it lie before the center.
        For a sigma that is no integer its peak lies between two pixels, as in DeepLab2.
    """
    positions = np.arange(int(6 * sigma + 3), dtype=np.float64) - (3 * sigma + 1)
    squares = positions[:, None] ** 2 + positions[None, :] ** 2
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32), int(round(3 * sigma + 1))


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
