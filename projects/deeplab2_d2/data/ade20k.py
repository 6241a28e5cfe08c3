"""
ADE20K (the 150 classes of the scene parsing challenge) in COCO panoptic format.

The release has a semantic map (``annotations``) and a map of instances of 100 of the classes
(``annotations_instance``); a panoptic annotation is made of both by :func:`prepare_ade20k`.
"""

import glob
import os
from typing import Any, Dict, List

import numpy as np
from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES

from ..structures import open_image
from .panoptic_writer import PanopticWriter, Segment

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}

# fmt: off
_STUFF_IDS = (
    0, 1, 2, 3, 4, 5, 6, 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59,
    60, 61, 63, 68, 77, 79, 84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128,
    131, 140, 141, 145,
)
# fmt: on


def ade20k_categories() -> List[Dict[str, Any]]:
    """The 150 categories in COCO panoptic form; ids count from 0, one less than in the PNGs."""
    return [
        {"id": k, "name": name.strip(), "isthing": int(k not in _STUFF_IDS)}
        for k, name in enumerate(ADE20K_SEM_SEG_CATEGORIES)
    ]


def prepare_ade20k(root: str, split: str) -> str:
    """
    Write ``ade20k_panoptic_<split>/`` and ``ade20k_panoptic_<split>.json``.

    Stuff comes from the semantic map and things from the map of instances, whose number k of a
    class is the k-th of the things; where both have something, the instance wins.

    Args:
        root: the folder ``ADEChallengeData2016``.
        split: "train" or "val".

    Returns:
        the path of the JSON.

    Raises:
        FileNotFoundError: if the release is not complete.
        ValueError: if an instance has several classes, or a map is not of the image's size.
    """
    images = os.path.join(root, "images", SPLITS[split])
    files = sorted(glob.glob(os.path.join(glob.escape(images), "*.jpg")))
    if not files:
        raise FileNotFoundError(f"folder {images} has no *.jpg; is the release complete?")
    writer = PanopticWriter(
        panoptic_root=os.path.join(root, f"ade20k_panoptic_{split}"),
        panoptic_json=os.path.join(root, f"ade20k_panoptic_{split}.json"),
        categories=ade20k_categories(),
    )
    for file in files:
        stem = os.path.splitext(os.path.basename(file))[0]
        with open_image(file) as image:
            size = (image.height, image.width)
        maps = [
            _read_map(os.path.join(root, name, SPLITS[split], f"{stem}.png"), size)
            for name in ("annotations", "annotations_instance")
        ]
        segments = _stuff_segments(maps[0]) + _thing_segments(maps[1], stem)
        writer.add(os.path.basename(file), size, segments, image_id=stem)
    return writer.close()


def _read_map(file: str, size: tuple) -> np.ndarray:
    with open_image(file, "annotation") as image:
        pixels = np.asarray(image)
    if pixels.shape[:2] != size:
        raise ValueError(f"{file} has size {pixels.shape[:2]}, but its image has {size}")
    return pixels


def _stuff_segments(semantic: np.ndarray) -> List[Segment]:
    # 0 is "other"; the classes count from 1.
    present = np.unique(semantic).astype(int) - 1
    return [Segment(semantic == k + 1, int(k)) for k in present if k in _STUFF_IDS]


def _thing_segments(instances: np.ndarray, stem: str) -> List[Segment]:
    """Instances: red is the class among the things, from 1, green the number of the instance."""
    thing_ids = [k for k in range(len(ADE20K_SEM_SEG_CATEGORIES)) if k not in _STUFF_IDS]
    classes, numbers = instances[..., 0], instances[..., 1]
    segments = []
    for number in np.unique(numbers[numbers > 0]):
        mask = numbers == number
        found = np.unique(classes[mask])
        if len(found) != 1 or not 1 <= found[0] <= len(thing_ids):
            raise ValueError(
                f"annotations_instance of {stem}: instance {number} must have one class of 1 to "
                f"{len(thing_ids)}, got {found.tolist()}"
            )
        segments.append(Segment(mask, thing_ids[int(found[0]) - 1]))
    return segments
