"""Inspection of what a dataset tells of videos and depth beside COCO's entries."""

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..structures import DatasetClasses, read_depth_png
from .findings import DatasetReport
from .sequences import join_frames


def inspect_sequences(
    images: Sequence[Mapping[str, Any]], path: str, report: DatasetReport
) -> bool:
    """
    Whether the images of an annotation are frames of videos; adds what keeps them from being such.

    Args:
        images: entries of the JSON.
        path: of the JSON.
        report: to add to.
    """
    frames: List[Dict[str, Any]] = [dict(image) for image in images]
    if not any("sequence" in frame for frame in frames):
        return False
    try:
        join_frames(frames, path)
    except ValueError as error:
        report.add("broken_sequence", path, str(error))
    return True


def inspect_tracks(
    segments: Sequence[Mapping[str, Any]], classes: DatasetClasses, png: str, report: DatasetReport
) -> None:
    """
    Add the instances of a frame that have no track, or that of another one.

    Args:
        segments: of the JSON.
        classes: of the dataset.
        png: of the frame, named in findings.
        report: to add to.
    """
    seen = set()
    for segment in segments:
        contiguous = classes.category_ids.get(segment["category_id"])
        if contiguous not in classes.thing_ids or segment.get("iscrowd", 0):
            continue
        track_id = segment.get("track_id", 0)
        if track_id < 1 or (contiguous, track_id) in seen:
            report.add("broken_track", png, f"segment {segment['id']}: track_id {track_id}")
        seen.add((contiguous, track_id))


def inspect_depth(
    image: Mapping[str, Any], root: str, size: Optional[Tuple[int, int]], report: DatasetReport
) -> None:
    """
    Add an image whose depth cannot be used.

    Args:
        image: its entry of the JSON.
        root: folder of the images.
        size: (height, width) of the image; None if it cannot be read.
        report: to add to.
    """
    if "depth_file_name" not in image:
        return
    file = os.path.join(root, image["depth_file_name"])
    try:
        depth = read_depth_png(file)
    except (FileNotFoundError, ValueError) as error:
        report.add("broken_depth", file, str(error))
        return
    if size is not None and depth.shape != size:
        report.add("broken_depth", file, f"{depth.shape}, but the image has {size}")
