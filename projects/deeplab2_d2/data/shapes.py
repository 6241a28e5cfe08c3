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

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_panoptic
from PIL import Image

from .shapes_scene import STUFF_NAMES, THING_NAMES, Scene, SceneOptions, draw_scene

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")
# A thing counts as partly hidden if others cover at least this part of its pixels in the image.
_HIDDEN_FRACTION = 0.05
# Fields of info.json that have to agree before a complete set on disk is used again.
_VERSION = 2

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
    categories = shapes_categories()
    contiguous = {category["id"]: i for i, category in enumerate(categories)}
    names = [category["name"] for category in categories]
    colors = [category["color"] for category in categories]
    return {
        "thing_classes": names,
        "stuff_classes": list(names),
        "thing_colors": colors,
        "stuff_colors": list(colors),
        "thing_dataset_id_to_contiguous_id": {
            c["id"]: contiguous[c["id"]] for c in categories if c["isthing"]
        },
        "stuff_dataset_id_to_contiguous_id": {
            c["id"]: contiguous[c["id"]] for c in categories if not c["isthing"]
        },
    }


def register_shapes(root: Optional[str] = None) -> None:
    """
    Register ``shapes_panoptic_train`` and ``shapes_panoptic_val``, each if absent.

    Args:
        root: folder of all datasets; default ``$DETECTRON2_DATASETS``, or ``datasets``.
    """
    if root is None:
        root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    folder = os.path.join(os.path.expanduser(root), "shapes")
    for split in SPLITS:
        name = f"shapes_panoptic_{split}"
        if name in DatasetCatalog.list():
            continue
        register_coco_panoptic(
            name,
            shapes_metadata(),
            os.path.join(folder, split),
            os.path.join(folder, f"panoptic_{split}"),
            os.path.join(folder, "annotations", f"panoptic_{split}.json"),
            os.path.join(folder, "annotations", f"instances_{split}.json"),
        )


def prepare_shapes(folder: str, options: ShapesOptions = ShapesOptions()) -> Dict[str, Any]:
    """
    Write the dataset, or use the complete one that is there.

    Everything is written under a temporary name beside ``folder`` and renamed at the end, so that
    ``folder`` is either absent or complete, also after an interruption.

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
    folder = os.path.abspath(folder)
    wanted = {"version": _VERSION, "options": json.loads(json.dumps(asdict(options)))}
    if os.path.exists(folder):
        return _read_complete(folder, wanted)

    partial = f"{folder}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(os.path.join(partial, "annotations"))
    info: Dict[str, Any] = dict(wanted)
    for split in SPLITS:
        info[split] = _write_split(partial, split, options)
    _write_json(os.path.join(partial, "info.json"), info)
    try:
        os.rename(partial, folder)
    except OSError:
        # Another process was faster; its folder is complete, for it was renamed as well.
        shutil.rmtree(partial)
        return _read_complete(folder, wanted)
    logger.info("Wrote %d + %d images to %s", options.num_train, options.num_val, folder)
    return info


def _read_complete(folder: str, wanted: Dict[str, Any]) -> Dict[str, Any]:
    info_file = os.path.join(folder, "info.json")
    if not os.path.isfile(info_file):
        raise ValueError(f"folder {folder} exists and is no shapes dataset: it has no info.json")
    with open(info_file) as f:
        info = json.load(f)
    for key, value in wanted.items():
        if info.get(key) != value:
            raise ValueError(
                f"folder {folder} holds a shapes dataset with {key} {info.get(key)}, wanted "
                f"{value}; remove it or write elsewhere"
            )
    return info


def _write_json(path: str, content: Dict[str, Any]) -> None:
    with open(path, "w") as f:
        json.dump(content, f)


def _write_split(folder: str, split: str, options: ShapesOptions) -> Dict[str, Any]:
    """Write images, panoptic PNGs and both JSON files of one split; return its statistics."""
    os.makedirs(os.path.join(folder, split))
    os.makedirs(os.path.join(folder, f"panoptic_{split}"))
    num_images = options.num_train if split == "train" else options.num_val
    images: List[Dict[str, Any]] = []
    panoptic: List[Dict[str, Any]] = []
    instances: List[Dict[str, Any]] = []
    counts = np.zeros(4, np.int64)
    per_class = {category["name"]: 0 for category in shapes_categories()}
    for k in range(num_images):
        # One generator an image, so that a longer set begins with the shorter one.
        rng = np.random.default_rng([options.seed, SPLITS.index(split), k])
        scene = draw_scene(options.scene, rng)
        stem = f"{k:06d}"
        height, width = scene.segment_map.shape
        images.append({"id": k + 1, "file_name": f"{stem}.jpg", "height": height, "width": width})
        segments = _segments_info(scene, rng)
        _write_images(folder, split, stem, scene, segments)
        panoptic.append({"image_id": k + 1, "file_name": f"{stem}.png", "segments_info": segments})
        instances.extend(_instance_annotations(scene, segments, k + 1, len(instances)))
        counts += _count(scene)
        for segment in scene.segments:
            per_class[segment.name] += 1
    _write_annotations(folder, split, images, panoptic, instances)
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


def _segments_info(scene: Scene, rng: np.random.Generator) -> List[Dict[str, Any]]:
    """``segments_info`` of COCO panoptic format, in the order of ``scene.segments``."""
    ids = rng.choice(256**3 - 1, size=len(scene.segments), replace=False) + 1
    category_ids = {c["name"]: c["id"] for c in shapes_categories()}
    return [
        {
            "id": int(ids[k]),
            "category_id": category_ids[segment.name],
            "iscrowd": int(segment.is_crowd),
            "area": int(np.sum(scene.segment_map == k + 1)),
            "bbox": list(_bounding_box(scene.segment_map == k + 1)),
        }
        for k, segment in enumerate(scene.segments)
    ]


def _bounding_box(mask: np.ndarray) -> Tuple[int, int, int, int]:
    """(x, y, width, height) of a mask with at least one pixel."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)


def _write_images(
    folder: str, split: str, stem: str, scene: Scene, segments: List[Dict[str, Any]]
) -> None:
    # Without chroma subsampling, which would blur the textures' colors.
    Image.fromarray(scene.image).save(
        os.path.join(folder, split, f"{stem}.jpg"), quality=95, subsampling=0
    )
    ids = np.array([0] + [segment["id"] for segment in segments])[scene.segment_map]
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(os.path.join(folder, f"panoptic_{split}", f"{stem}.png"))


def _instance_annotations(
    scene: Scene, segments: List[Dict[str, Any]], image_id: int, num_before: int
) -> List[Dict[str, Any]]:
    """COCO instance annotations of the things and crowds; ids go on after ``num_before``."""
    from pycocotools import mask as mask_util

    annotations: List[Dict[str, Any]] = []
    for k, (segment, drawn) in enumerate(zip(segments, scene.segments)):
        if drawn.name not in THING_NAMES:
            continue
        rle = mask_util.encode(np.asfortranarray((scene.segment_map == k + 1).astype(np.uint8)))
        rle["counts"] = rle["counts"].decode("ascii")
        annotations.append(
            {
                "id": num_before + len(annotations) + 1,
                "image_id": image_id,
                "category_id": segment["category_id"],
                "iscrowd": segment["iscrowd"],
                "area": segment["area"],
                "bbox": segment["bbox"],
                "segmentation": rle,
            }
        )
    return annotations


def _write_annotations(
    folder: str,
    split: str,
    images: List[Dict[str, Any]],
    panoptic: List[Dict[str, Any]],
    instances: List[Dict[str, Any]],
) -> None:
    categories = shapes_categories()
    head = {"info": {"description": "generated shapes"}, "licenses": [], "images": images}
    annotations = os.path.join(folder, "annotations")
    _write_json(
        os.path.join(annotations, f"panoptic_{split}.json"),
        {**head, "annotations": panoptic, "categories": categories},
    )
    _write_json(
        os.path.join(annotations, f"instances_{split}.json"),
        {**head, "annotations": instances, "categories": [c for c in categories if c["isthing"]]},
    )
