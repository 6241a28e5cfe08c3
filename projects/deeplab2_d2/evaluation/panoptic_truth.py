"""The ground truth of panoptic quality, with what a JSON of COCO's format may have left out."""

import os
from typing import Any, Dict, Mapping

import numpy as np

from ..structures import (
    DatasetClasses,
    check_panoptic_json,
    has_categories,
    read_json_object,
    read_panoptic_png,
)


def read_panoptic_truth(
    panoptic_json: str, panoptic_root: str, classes: DatasetClasses
) -> Dict[str, Any]:
    """
    Read the annotation of a dataset as panopticapi needs it.

    What a segment's ``area`` would say is counted in the PNG, ``iscrowd`` is 0, and categories are
    the metadata's, where the JSON does not have them.

    Args:
        panoptic_json, panoptic_root: of the dataset.
        classes: of the dataset.

    Returns:
        the content of the JSON; what it has is as it stands there.

    Raises:
        OSError: if the JSON cannot be read.
        ValueError: naming the file and the entry that cannot be used.
    """
    content = read_json_object(panoptic_json)
    check_panoptic_json(content, panoptic_json, parts=("annotations",))
    if not has_categories(content):
        content["categories"] = list(classes.categories.values())
    for annotation in content["annotations"]:
        _complete_segments(annotation, panoptic_root)
    return content


def _complete_segments(annotation: Mapping[str, Any], panoptic_root: str) -> None:
    segments = annotation["segments_info"]
    for segment in segments:
        segment.setdefault("iscrowd", 0)
    if all("area" in segment for segment in segments):
        return
    ids = read_panoptic_png(os.path.join(panoptic_root, annotation["file_name"]))
    areas = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True))))
    for segment in segments:
        segment.setdefault("area", areas.get(segment["id"], 0))
