"""Targets of mask transformers (MaX-DeepLab, kMaX-DeepLab): things numbered through an image."""

from typing import Tuple

import numpy as np

from .segment_map import SegmentTable


def thing_id_targets(
    segment_map: np.ndarray, segments: SegmentTable, max_things: int
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Number the visible things of an image by their first pixel in raster order.

    Reference: DeepLab2's ``sample_generator.py``.

    Args:
        segment_map: (H, W) int32, 0 = unlabeled, ``k + 1`` = segment ``k``.
        segments: the table.
        max_things: length of the class list.

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
        raise ValueError(f"max_things is {max_things}, but {len(ordered)} things are visible")

    numbers = np.full(len(segments), -1, np.int32)
    numbers[ordered] = np.arange(len(ordered), dtype=np.int32)
    classes = np.full(max_things, -1, np.float32)
    classes[: len(ordered)] = segments.category_ids[ordered]
    return segments.look_up(numbers, -1)[segment_map], classes
