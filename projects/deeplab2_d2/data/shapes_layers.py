"""
The generated dataset ``shapes_layers``: whole, overlapping instances beside panoptic maps.

For models that learn what is in front. Instances are amodal: their masks are the whole things, also
where others cover them, and each annotation has ``paint_order``, its place among the things of the
image, 0 the lowest. Painting the masks in that order gives the things of the panoptic map. See
``shapes_layers_scene.py`` for what is drawn.

Folder tree under ``$DETECTRON2_DATASETS/shapes_layers``: as that of ``shapes``.
"""

import os
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Dict, Iterator, List

import numpy as np

from .generated import DrawnImage, write_image_split, write_once
from .panoptic_writer import Segment, instance_annotations
from .registration import register_panoptic_dataset
from .shapes import SPLITS, scene_segments, shapes_categories, shapes_metadata
from .shapes_layers_scene import LayeredThing, LayersOptions, draw_layers_scene
from .shapes_scene import THING_NAMES

# Fields of info.json that have to agree before a complete set on disk is used again.
_VERSION = 1


@dataclass(frozen=True)
class ShapesLayersOptions:
    """
    Size and seed of the dataset.

    Args:
        num_train, num_val: number of images of each split.
        seed: equal options write equal files, byte by byte (with the same numpy and Pillow).
        scene: what a scene may contain.
    """

    num_train: int = 400
    num_val: int = 60
    seed: int = 0
    scene: LayersOptions = LayersOptions()

    def __post_init__(self) -> None:
        if self.num_train < 1 or self.num_val < 1:
            raise ValueError(
                f"num_train and num_val must be at least 1, got {self.num_train}, {self.num_val}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def register_shapes_layers(root: str) -> None:
    """
    Register ``shapes_layers_train`` and ``shapes_layers_val``, each if absent.

    Their dicts have ``segments_info`` and ``annotations``. The classes are those of
    ``shapes_panoptic``.

    Args:
        root: folder of all datasets.
    """
    folder = os.path.join(root, "shapes_layers")
    for split in SPLITS:
        register_panoptic_dataset(
            f"shapes_layers_{split}",
            shapes_metadata(),
            image_root=os.path.join(folder, split),
            panoptic_root=os.path.join(folder, f"panoptic_{split}"),
            panoptic_json=os.path.join(folder, "annotations", f"panoptic_{split}.json"),
            instances_json=os.path.join(folder, "annotations", f"instances_{split}.json"),
            has_instances=True,
        )


def prepare_shapes_layers(
    folder: str, options: ShapesLayersOptions = ShapesLayersOptions()
) -> Dict[str, Any]:
    """
    Write the dataset, or use the complete one that is there; see :func:`write_once`.

    Args:
        folder: where it goes, usually ``$DETECTRON2_DATASETS/shapes_layers``.
        options: size and seed.

    Returns:
        the content of ``info.json``: ``version``, ``options`` and per split the statistics
        ``num_images``; ``num_things`` and the part of them that overlaps another,
        ``overlapping_fraction``; ``num_pairs``, overlapping ones of two classes, and the part of
        them in the order of the classes, ``in_class_order_fraction``; ``num_same_class_pairs``,
        overlapping ones of one class.

    Raises:
        ValueError: if ``folder`` exists and was made with other options, or holds anything else.
    """
    return write_once(
        folder,
        "shapes_layers",
        {"version": _VERSION, "options": asdict(options)},
        lambda part: {split: _write_split(part, split, options) for split in SPLITS},
    )


def _write_split(folder: str, split: str, options: ShapesLayersOptions) -> Dict[str, Any]:
    """Write images, panoptic PNGs and both JSON files of one split; return its statistics."""
    num_images = options.num_train if split == "train" else options.num_val
    counts = np.zeros(5, np.int64)

    def draw() -> Iterator[DrawnImage]:
        for k in range(num_images):
            # One generator an image, so that a longer set begins with the shorter one.
            rng = np.random.default_rng([options.seed, SPLITS.index(split), k])
            drawn = draw_layers_scene(options.scene, rng)
            counts[:] += _count(drawn.things)
            annotate = partial(_annotate, drawn.things)
            yield DrawnImage(drawn.scene.image, scene_segments(drawn.scene), annotate)

    write_image_split(folder, split, draw(), shapes_categories())
    num_things, num_overlapping, num_pairs, num_in_order, num_same_class = counts.tolist()
    return {
        "num_images": num_images,
        "num_things": num_things,
        "overlapping_fraction": round(num_overlapping / max(num_things, 1), 4),
        "num_pairs": num_pairs,
        "in_class_order_fraction": round(num_in_order / max(num_pairs, 1), 4),
        "num_same_class_pairs": num_same_class,
    }


def _annotate(
    things: List[LayeredThing], seen: List[Segment], image_id: int, first_id: int
) -> List[Dict[str, Any]]:
    """The whole things, seen or not, in COCO instance format with ``paint_order``."""
    category_ids = {c["name"]: c["id"] for c in shapes_categories()}
    segments = [Segment(thing.mask, category_ids[thing.name]) for thing in things]
    annotations = instance_annotations(segments, image_id=image_id, first_id=first_id)
    return [{**a, "paint_order": t.paint_order} for a, t in zip(annotations, things)]


def _count(things: List[LayeredThing]) -> np.ndarray:
    """
    Things, those that overlap another, overlapping pairs of two classes, those of them in the
    order of the classes, overlapping pairs of one class.
    """
    counts = np.zeros(5, np.int64)
    overlapping = set()
    for k, thing in enumerate(things):
        for n, other in enumerate(things[:k]):
            if not (thing.mask & other.mask).any():
                continue
            overlapping |= {k, n}
            rank, other_rank = (THING_NAMES.index(t.name) for t in (thing, other))
            is_above = thing.paint_order > other.paint_order
            differs = rank != other_rank
            counts[2:] += [differs, differs and is_above == (rank > other_rank), not differs]
    counts[:2] = len(things), len(overlapping)
    return counts
