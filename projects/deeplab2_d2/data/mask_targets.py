"""Targets of mask transformers (MaX-DeepLab, kMaX-DeepLab): things numbered through an image."""

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np
import torch

from .segment_map import SegmentTable


def thing_id_targets(
    segment_map: np.ndarray,
    segments: SegmentTable,
    max_things: int,
    *,
    source: str = "image",
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Number the visible things of an image by their first pixel in raster order.

    Reference: DeepLab2's ``sample_generator.py``.

    Args:
        segment_map: (H, W) int32, 0 = unlabeled, ``k + 1`` = segment ``k``.
        segments: the table.
        max_things: length of the class list.
        source: named in the error.

    Returns:
        thing_ids: (H, W) int32, number of the pixel's thing, -1 on stuff, crowds and void.
        thing_classes: (max_things,) float32, class of each number, then -1.

    Raises:
        ValueError: if more than ``max_things`` things are visible.
    """
    flat = segment_map.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    first = np.full(len(segments) + 1, flat.size)
    # Assigned backwards, so that the first pixel is what stays.
    first[flat[starts][::-1]] = starts[::-1]
    visible = np.flatnonzero(segments.is_instance & (first[1:] < flat.size))
    ordered = visible[np.argsort(first[1:][visible])]
    if len(ordered) > max_things:
        raise ValueError(
            f"{source} must show at most {max_things} things (max_things), got {len(ordered)}"
        )

    numbers = np.full(len(segments), -1, np.int32)
    numbers[ordered] = np.arange(len(ordered), dtype=np.int32)
    classes = np.full(max_things, -1, np.float32)
    classes[: len(ordered)] = segments.category_ids[ordered]
    return segments.look_up(numbers, -1)[segment_map], classes


@dataclass(frozen=True)
class ThingMaskTargets:
    """
    Targets in the frame of the crop: a label map and classes, no map for each mask.

    Args:
        sem_seg: (H, W) int64, class id or the ignore label.
        sem_seg_weights: (H, W) float32, 1, or the weight of small instances on their pixels.
        thing_masks: (H, W) int32, number of the pixel's thing, -1 elsewhere.
        thing_classes: (max_things,) int64, class of each number, then -1.
    """

    sem_seg: np.ndarray
    sem_seg_weights: np.ndarray
    thing_masks: np.ndarray
    thing_classes: np.ndarray

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The entries of a sample."""
        return {
            "sem_seg": torch.from_numpy(self.sem_seg),
            "sem_seg_weights": torch.from_numpy(self.sem_seg_weights),
            "thing_masks": torch.from_numpy(self.thing_masks),
            "thing_classes": torch.from_numpy(self.thing_classes),
        }


class MaskTargetGenerator:
    """
    Make the targets of one segment map.

    Args:
        ignore_label: of pixels without a class, in ``sem_seg``.
        max_things: most things of an image.
        small_instance_area: an instance with fewer visible pixels is small.
        small_instance_weight: weight of its pixels in the semantic loss.
    """

    def __init__(
        self,
        *,
        ignore_label: int,
        max_things: int = 128,
        small_instance_area: int = 4096,
        small_instance_weight: float = 1.0,
    ):
        if max_things < 1:
            raise ValueError(f"max_things must be positive, got {max_things}")
        self.ignore_label = ignore_label
        self.max_things = max_things
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight

    def __call__(
        self, segment_map: np.ndarray, segments: SegmentTable, *, source: str = "image"
    ) -> ThingMaskTargets:
        """
        Args:
            segment_map: (H, W) int32, 0 = unlabeled, ``k + 1`` = segment ``k``.
            segments: the table of all segments; those cropped away are without effect.
            source: the image, for the error.

        Raises:
            ValueError: see :func:`thing_id_targets`.
        """
        semantic = np.where(segments.is_crowd, self.ignore_label, segments.category_ids)
        areas = np.bincount(segment_map.ravel(), minlength=len(segments) + 1)[1:]
        is_small = segments.is_instance & (areas < self.small_instance_area)
        weights = np.where(is_small, self.small_instance_weight, 1.0).astype(np.float32)
        thing_masks, thing_classes = thing_id_targets(
            segment_map, segments, self.max_things, source=source
        )
        return ThingMaskTargets(
            sem_seg=segments.look_up(semantic.astype(np.int64), self.ignore_label)[segment_map],
            sem_seg_weights=segments.look_up(weights, 1.0)[segment_map],
            thing_masks=thing_masks,
            thing_classes=thing_classes.astype(np.int64),
        )
