"""
Training targets of Panoptic-DeepLab from a segment map.

Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3, and DeepLab2's ``sample_generator.py``,
whose numbers these are.
"""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np
import torch

from ..ops import panoptic_targets
from ..ops.reference.targets import draw_windows
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
    ):
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.ignore_label = ignore_label
        self.sigma = sigma
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic
        self.has_instances = has_instances

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
        if not self.has_instances:
            table = segments.look_up(semantic.astype(np.int64), self.ignore_label)
            return PanopticTargets(table[segment_map], np.ones(segment_map.shape, np.float32))
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
    return draw_windows(shape, centers, *gaussian_window(sigma))


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
