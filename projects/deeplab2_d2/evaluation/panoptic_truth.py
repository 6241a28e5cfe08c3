"""Ground truth of panoptic quality: each image once, and areas that are those of the PNGs."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping

from ..structures import (
    DatasetClasses,
    check_distinct,
    check_panoptic_json,
    has_categories,
    is_thing_category,
    read_json_object,
    read_panoptic_png,
)
from .label_pairs import count_label_pairs

logger = logging.getLogger(__name__)

# Readers of PNGs, which wait for files and for zlib.
_NUM_THREADS = 4


def load_panoptic_truth(panoptic_json: str, classes: DatasetClasses) -> Dict[str, Any]:
    """
    Read an annotation that predictions are to be scored against.

    Args:
        panoptic_json: in COCO panoptic format. It may lack ``iscrowd``, which is 0 then, areas, and
            the categories, which are those of the metadata.
        classes: of the dataset.

    Returns:
        its content; ``isthing`` of its categories is 0 or 1.

    Raises:
        OSError: if it cannot be read.
        ValueError: naming the file and the entry that is not as the format has it; if an image or
            the annotation of an image is there twice, which would be scored twice, or a category
            does not say whether it is a thing.
    """
    content = read_json_object(panoptic_json)
    annotations = check_panoptic_json(content, panoptic_json, parts=("annotations",)).annotations
    listed = [i for i in content.get("images") or () if isinstance(i, dict) and "id" in i]
    check_distinct((image["id"] for image in listed), panoptic_json, "images")
    ids = (annotation["image_id"] for annotation in annotations)
    check_distinct(ids, panoptic_json, "annotations")
    if not has_categories(content):
        content["categories"] = list(classes.categories.values())
    content["categories"] = [
        {**category, "isthing": int(is_thing_category(category))}
        for category in content["categories"]
    ]
    for annotation in annotations:
        for segment in annotation["segments_info"]:
            segment.setdefault("iscrowd", 0)
    return content


def correct_areas(annotations: List[Dict[str, Any]], panoptic_root: str) -> int:
    """
    Give segments the areas that they have in the PNGs, in place.

    panopticapi takes the JSON's, which another resolution or a hand may have left behind: the
    quality then is anything, also above 100.

    Args:
        annotations: of COCO panoptic format.
        panoptic_root: folder of their PNGs, named in a warning.

    Returns:
        the number of segments whose area was another.

    Raises:
        FileNotFoundError, ValueError: if a PNG is not there or cannot be read.
    """

    def areas_of(annotation: Mapping[str, Any]) -> Dict[int, int]:
        ids = read_panoptic_png(os.path.join(panoptic_root, annotation["file_name"]))
        pairs = count_label_pairs(ids, ids)
        return dict(zip(pairs.truth.tolist(), pairs.pixels.tolist()))

    wrong = 0
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for annotation, areas in zip(annotations, pool.map(areas_of, annotations)):
            for segment in annotation["segments_info"]:
                area = areas.get(segment["id"], 0)
                wrong += segment.get("area", area) != area
                segment["area"] = area
    if wrong:
        logger.warning(
            "%s: %d segments have another area than in the PNG; those of the PNGs are used",
            panoptic_root,
            wrong,
        )
    return wrong
