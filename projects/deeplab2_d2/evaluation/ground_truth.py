"""Semantic ground truth of panoptic datasets, from the panoptic PNG."""

from typing import Any, Dict, Mapping

import numpy as np

from ..structures import read_panoptic_png


def segment_classes(
    record: Mapping[str, Any], *, ignore_label: int, ignore_crowd: bool
) -> Dict[int, int]:
    """
    Args:
        record: a Detectron2 dataset dict with ``segments_info`` (contiguous ``category_id``).
        ignore_label: of void, and of crowd segments where those are ignored.
        ignore_crowd: whether crowd segments get ``ignore_label`` instead of their class.

    Returns:
        contiguous class id of each id of the image's panoptic PNG; id 0 is void.
    """
    classes = {0: ignore_label}
    for segment in record["segments_info"]:
        is_ignored = ignore_crowd and segment.get("iscrowd", 0)
        classes[segment["id"]] = ignore_label if is_ignored else segment["category_id"]
    return classes


def classes_of_ids(
    ids: np.ndarray, classes: Mapping[int, int], record: Mapping[str, Any]
) -> np.ndarray:
    """
    Args:
        ids: (P,) segment ids.
        classes: of :func:`segment_classes`.
        record: what they are from.

    Returns:
        (P,) int64 classes.

    Raises:
        ValueError: if the PNG has a segment that the dict does not list.
    """
    unknown = sorted(set(ids.tolist()) - classes.keys())
    if unknown:
        raise ValueError(
            f"{record['pan_seg_file_name']} has segments {unknown[:5]} that its annotation does "
            "not list"
        )
    return np.array([classes[segment] for segment in ids.tolist()], dtype=np.int64)


def decode_semantic_map(
    record: Mapping[str, Any], *, ignore_label: int, ignore_crowd: bool
) -> np.ndarray:
    """
    Semantic ground truth of an image from its panoptic annotation.

    Args:
        record: a Detectron2 dataset dict with ``pan_seg_file_name`` and ``segments_info``
            (contiguous ``category_id``).
        ignore_label, ignore_crowd: see :func:`segment_classes`.

    Returns:
        (H, W) int64 contiguous class ids or ``ignore_label``.

    Raises:
        ValueError: if the PNG has a segment that the dict does not list.
    """
    ids = read_panoptic_png(record["pan_seg_file_name"])
    present, inverse = np.unique(ids, return_inverse=True)
    classes = segment_classes(record, ignore_label=ignore_label, ignore_crowd=ignore_crowd)
    return classes_of_ids(present, classes, record)[inverse].reshape(ids.shape)
