"""
The generated dataset ``shapes_panoptic`` in COCO panoptic format.

It needs no download, is small enough to train on two CPU cores in minutes, and has what real sets
have: things that hide each other, small instances, crowds and unlabeled pixels. See
``shapes_scene.py`` for what is drawn.

Folder tree under ``$DETECTRON2_DATASETS/shapes``::

    shapes/
      info.json                       options and statistics; written last
      train/, val/                    images, JPEG
      panoptic_train/, panoptic_val/  panoptic PNG files
      annotations/
        panoptic_{train,val}.json     COCO panoptic format
        instances_{train,val}.json    COCO instance format (visible masks as RLE), for AP
"""

import os
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List

import numpy as np

from .generated import DrawnImage, write_image_split, write_once
from .panoptic_writer import Segment, instance_annotations
from .registration import panoptic_metadata, register_panoptic_dataset
from .shapes_scene import STUFF_NAMES, THING_NAMES, Scene, SceneOptions, draw_scene

SPLITS = ("train", "val")
# A thing counts as partly hidden if others cover at least this part of its pixels in the image.
_HIDDEN_FRACTION = 0.05
# Fields of info.json that have to agree before a complete set on disk is used again.
_VERSION = 3

_COLORS = {
    "disc": [220, 20, 60],
    "square": [0, 110, 230],
    "triangle": [250, 170, 30],
    "star": [119, 11, 180],
    "stripes": [107, 142, 35],
    "checker": [128, 64, 128],
    "clouds": [70, 190, 200],
}


@dataclass(frozen=True)
class ShapesOptions:
    """
    Size and seed of the dataset.

    Args:
        num_train, num_val: number of images of each split.
        seed: equal options write equal files, byte by byte (with the same numpy and Pillow).
        scene: what a scene may contain.
    """

    num_train: int = 600
    num_val: int = 100
    seed: int = 0
    scene: SceneOptions = SceneOptions()

    def __post_init__(self) -> None:
        if self.num_train < 1 or self.num_val < 1:
            raise ValueError(
                f"num_train and num_val must be at least 1, got {self.num_train}, {self.num_val}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def shapes_categories() -> List[Dict[str, Any]]:
    """
    The categories in COCO panoptic form, things first.

    Their ids are not contiguous, as in COCO: whoever mixes them up with the contiguous ids of
    Detectron2 finds out at once.
    """
    things = [(i + 1, name, 1) for i, name in enumerate(THING_NAMES)]
    stuff = [(i + 21, name, 0) for i, name in enumerate(STUFF_NAMES)]
    return [
        {
            "id": id_,
            "name": name,
            "isthing": isthing,
            "supercategory": "shape" if isthing else "texture",
            "color": _COLORS[name],
        }
        for id_, name, isthing in things + stuff
    ]


def shapes_metadata() -> Dict[str, Any]:
    """The metadata of the dataset, in the form of Detectron2's ``coco_panoptic_standard``."""
    return panoptic_metadata(shapes_categories())


def register_shapes(root: str) -> None:
    """
    Register ``shapes_panoptic_train`` and ``shapes_panoptic_val``, each if absent.

    Args:
        root: folder of all datasets.
    """
    folder = os.path.join(root, "shapes")
    for split in SPLITS:
        register_panoptic_dataset(
            f"shapes_panoptic_{split}",
            shapes_metadata(),
            image_root=os.path.join(folder, split),
            panoptic_root=os.path.join(folder, f"panoptic_{split}"),
            panoptic_json=os.path.join(folder, "annotations", f"panoptic_{split}.json"),
            instances_json=os.path.join(folder, "annotations", f"instances_{split}.json"),
        )


def prepare_shapes(folder: str, options: ShapesOptions = ShapesOptions()) -> Dict[str, Any]:
    """
    Write the dataset, or use the complete one that is there; see :func:`write_once`.

    Args:
        folder: where it goes, usually ``$DETECTRON2_DATASETS/shapes``.
        options: size and seed.

    Returns:
        the content of ``info.json``: ``version``, ``options`` and per split the statistics
        ``num_images``, ``num_things``, ``num_partly_hidden``, ``hidden_fraction``, ``num_small``
        (under 16 x 16 pixels), ``num_crowds`` and ``segments_per_class``.

    Raises:
        ValueError: if ``folder`` exists and was made with other options, or holds anything else.
    """
    return write_once(
        folder,
        "shapes",
        {"version": _VERSION, "options": asdict(options)},
        lambda partial: {split: _write_split(partial, split, options) for split in SPLITS},
    )


def _write_split(folder: str, split: str, options: ShapesOptions) -> Dict[str, Any]:
    """Write images, panoptic PNGs and both JSON files of one split; return its statistics."""
    num_images = options.num_train if split == "train" else options.num_val
    counts = np.zeros(4, np.int64)
    per_class = {category["name"]: 0 for category in shapes_categories()}

    def draw() -> Iterator[DrawnImage]:
        for k in range(num_images):
            # One generator an image, so that a longer set begins with the shorter one.
            rng = np.random.default_rng([options.seed, SPLITS.index(split), k])
            scene = draw_scene(options.scene, rng)
            counts[:] += _count(scene)
            for segment in scene.segments:
                per_class[segment.name] += 1
            yield DrawnImage(scene.image, scene_segments(scene), _annotate)

    write_image_split(folder, split, draw(), shapes_categories())
    num_things, num_hidden, num_small, num_crowds = counts.tolist()
    return {
        "num_images": num_images,
        "num_things": num_things,
        "num_partly_hidden": num_hidden,
        "hidden_fraction": round(num_hidden / max(num_things, 1), 4),
        "num_small": num_small,
        "num_crowds": num_crowds,
        "segments_per_class": per_class,
    }


def scene_segments(scene: Scene) -> List[Segment]:
    """What is seen of a scene's segments, for a :class:`PanopticWriter`."""
    category_ids = {c["name"]: c["id"] for c in shapes_categories()}
    return [
        Segment(scene.segment_map == k + 1, category_ids[segment.name], segment.is_crowd)
        for k, segment in enumerate(scene.segments)
    ]


def _annotate(segments: List[Segment], image_id: int, first_id: int) -> List[Dict[str, Any]]:
    """The things that are seen."""
    things = [segment for segment in segments if segment.category_id <= len(THING_NAMES)]
    return instance_annotations(things, image_id=image_id, first_id=first_id)


def _count(scene: Scene) -> np.ndarray:
    """Things, partly hidden things, small things (under 16 x 16 pixels) and crowds of a scene."""
    counts = np.zeros(4, np.int64)
    for segment, area in zip(scene.segments, scene.visible_areas()):
        if segment.is_crowd:
            counts[3] += 1
        elif segment.name in THING_NAMES:
            is_hidden = area <= (1 - _HIDDEN_FRACTION) * segment.full_area
            counts[:3] += [1, is_hidden, area < 16 * 16]
    return counts
