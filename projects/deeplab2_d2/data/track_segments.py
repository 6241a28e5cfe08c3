"""Segments of a frame of a video, from what the releases of video datasets label its pixels."""

from typing import AbstractSet, List

import numpy as np

from .panoptic_writer import Segment

# Numbers of instances are below.
_NUM_INSTANCES = 65536


def track_segments(
    classes: np.ndarray,
    numbers: np.ndarray,
    *,
    num_classes: int,
    thing_ids: AbstractSet[int],
    void: int,
    source: str,
) -> List[Segment]:
    """
    The segments of a frame. A thing without a number is a crowd; numbers of stuff do not count.

    Args:
        classes: (H, W) integer, ``void`` where unlabeled.
        numbers: (H, W) integer, 0 to 65535, of the instance; the same in all frames of a video.
        num_classes: classes are below it.
        thing_ids: classes with instances.
        void: what unlabeled pixels have as their class.
        source: named in errors.

    Returns:
        segments with ``track_id``, by class and number.

    Raises:
        ValueError: if a pixel has a class that is not there.
    """
    is_thing = np.isin(classes, list(thing_ids))
    labels = classes.astype(np.int64) * _NUM_INSTANCES + np.where(is_thing, numbers, 0)
    segments = []
    for label in np.unique(labels):
        class_id, number = divmod(int(label), _NUM_INSTANCES)
        if class_id == void:
            continue
        if class_id >= num_classes:
            raise ValueError(
                f"{source} must have classes below {num_classes}, or {void} for void, "
                f"got {class_id}"
            )
        is_crowd = class_id in thing_ids and number == 0
        segments.append(Segment(labels == label, class_id, is_crowd, track_id=number))
    return segments
