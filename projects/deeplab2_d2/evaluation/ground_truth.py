"""Semantic ground truth of panoptic datasets, from the panoptic PNG."""

from typing import Any, Mapping

import numpy as np

from ..structures import read_panoptic_png


def decode_semantic_map(
    record: Mapping[str, Any], *, ignore_label: int, ignore_crowd: bool
) -> np.ndarray:
    """
    Semantic ground truth of an image from its panoptic annotation.

    Args:
        record: a Detectron2 dataset dict with ``pan_seg_file_name`` and ``segments_info``
            (contiguous ``category_id``).
        ignore_label: value of unlabeled pixels.
        ignore_crowd: whether crowd segments get ``ignore_label`` instead of their class.

    Returns:
        (H, W) int64 contiguous class ids or ``ignore_label``.

    Raises:
        ValueError: if the PNG has a segment that the dict does not list.
    """
    ids = read_panoptic_png(record["pan_seg_file_name"])
    present, inverse = np.unique(ids, return_inverse=True)
    classes = {0: ignore_label}
    for segment in record["segments_info"]:
        is_ignored = ignore_crowd and segment.get("iscrowd", 0)
        classes[segment["id"]] = ignore_label if is_ignored else segment["category_id"]
    unknown = [int(segment) for segment in present if int(segment) not in classes]
    if unknown:
        raise ValueError(
            f"{record['pan_seg_file_name']} has segments {unknown[:5]} that its annotation does "
            "not list"
        )
    table = np.array([classes[int(segment)] for segment in present], dtype=np.int64)
    return table[inverse].reshape(ids.shape)
