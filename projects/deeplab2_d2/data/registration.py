"""Registering datasets in COCO panoptic format, one's own among them."""

import glob
import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..structures import DatasetClasses, is_thing_category
from .instances import load_instances_json
from .sequences import join_frames

# A file of this name in a folder below $DETECTRON2_DATASETS registers the datasets of the folder.
MARKER = "panoptic_dataset.json"
# What an image of the JSON may tell beside COCO's entries: its place in a video, the focal length
# of its camera in pixels.
_OF_IMAGES = ("sequence", "frame", "focal_length")


def panoptic_metadata(categories: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """
    Metadata of a dataset in the form of Detectron2's ``coco_panoptic_standard``.

    Args:
        categories: of COCO panoptic format, ``id``, ``name``, ``isthing`` and optionally
            ``color`` ([r, g, b]). Contiguous ids are places in this list.

    Returns:
        class names, colors and the maps from category to contiguous ids.

    Raises:
        ValueError: if an id or a name is there twice, there is no category, or ``isthing`` of one
            is neither 0 nor 1.
    """
    for key in ("id", "name"):
        values = [category[key] for category in categories]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice or not values:
            raise ValueError(
                f"categories must have distinct {key}s and be some, got twice: {twice}"
            )
    is_thing = {category["id"]: is_thing_category(category) for category in categories}
    names = [category["name"] for category in categories]
    colors = [list(c.get("color", _color(k))) for k, c in enumerate(categories)]
    return {
        "thing_classes": names,
        "stuff_classes": list(names),
        "thing_colors": colors,
        "stuff_colors": list(colors),
        "thing_dataset_id_to_contiguous_id": {
            c["id"]: k for k, c in enumerate(categories) if is_thing[c["id"]]
        },
        "stuff_dataset_id_to_contiguous_id": {
            c["id"]: k for k, c in enumerate(categories) if not is_thing[c["id"]]
        },
    }


def _color(k: int) -> List[int]:
    """A color for class ``k``, distinct among some hundred: bits of k spread over the channels."""
    channels = [0, 0, 0]
    for bit in range(9):
        channels[bit % 3] |= ((k + 1) >> bit & 1) << (7 - bit // 3)
    return channels


def register_panoptic_dataset(
    name: str,
    metadata: Mapping[str, Any],
    *,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: Optional[str] = None,
    label_divisor: int = 1000,
    has_instances: bool = False,
) -> None:
    """
    Register a dataset of COCO panoptic format, if no dataset has that name yet.

    Unlike Detectron2's ``register_coco_panoptic``, images are found by the ``file_name`` of the
    JSON's ``images``, so they may have any format and lie in folders.

    With ``instances_json``, ``<name>_instances`` is registered as well: the same images, their
    dicts with ``annotations``; see :func:`load_instances_json`.

    Args:
        name: of the dataset.
        metadata: from :func:`panoptic_metadata`.
        image_root, panoptic_root: folders of the images and the panoptic PNGs.
        panoptic_json: the annotation.
        instances_json: annotation in COCO instance format, for AP and for ``<name>_instances``;
            None if there is none.
        label_divisor: tracks of a class are numbered below it.
        has_instances: the dicts of ``name`` itself have ``annotations``, of ``instances_json``.

    Raises:
        ValueError: if ``has_instances`` is True without an ``instances_json``.
    """
    if has_instances and instances_json is None:
        raise ValueError(f"instances_json of {name} must be given where has_instances is True")
    if instances_json is not None and not has_instances:
        register_panoptic_dataset(
            f"{name}_instances",
            metadata,
            image_root=image_root,
            panoptic_root=panoptic_root,
            panoptic_json=panoptic_json,
            instances_json=instances_json,
            label_divisor=label_divisor,
            has_instances=True,
        )
    if name in DatasetCatalog.list():
        return

    def load() -> List[Dict[str, Any]]:
        dicts = load_panoptic_json(panoptic_json, image_root, panoptic_root, metadata)
        if not has_instances:
            return dicts
        assert instances_json is not None
        return load_instances_json(instances_json, dicts, metadata, panoptic_json=panoptic_json)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        has_instances=has_instances,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=label_divisor,
        **metadata,
    )


def load_panoptic_json(
    panoptic_json: str, image_root: str, panoptic_root: str, metadata: Mapping[str, Any]
) -> List[Dict[str, Any]]:
    """
    Read the annotation of a dataset in COCO panoptic format.

    The JSON may tell more than COCO's does. Of an image: ``sequence`` and ``frame``, which video
    it is of and its number there; ``depth_file_name`` below ``image_root``, a 16-bit PNG of meters
    times 256, 0 where unknown; ``focal_length`` in pixels. Of a segment: ``track_id``, the number
    of the object in its class, the same in all frames of a sequence, 0 for stuff and crowds.

    Args:
        panoptic_json, image_root, panoptic_root: see :func:`register_panoptic_dataset`.
        metadata: maps from category to contiguous ids.

    Returns:
        dicts in Detectron2's format: ``file_name``, ``image_id``, ``height``, ``width``,
        ``pan_seg_file_name`` and ``segments_info`` (with contiguous ``category_id`` and
        ``isthing``), and what else the JSON tells of them. Frames of videos are sorted and have
        their neighbors; see :func:`join_frames`.

    Raises:
        ValueError: if an image or its annotation is there twice, if an annotation has no image in
            the list, or a category that the metadata lacks, or if only some images have a place in
            a video.
    """
    with PathManager.open(panoptic_json) as f:
        content = json.load(f)
    classes = DatasetClasses.from_metadata(metadata, needs_things=False)
    images: Dict[Any, Mapping[str, Any]] = {}
    for image in content["images"]:
        if images.setdefault(image["id"], image) is not image:
            raise ValueError(f"{panoptic_json}: image id {image['id']!r} is twice in images")
    annotated = set()
    dicts: List[Dict[str, Any]] = []
    for annotation in content["annotations"]:
        image = images.get(annotation["image_id"])
        source = f"{panoptic_json}: annotation {annotation['file_name']}"
        if image is None:
            raise ValueError(
                f"{source} has image_id {annotation['image_id']!r}, which is not among the images"
            )
        if annotation["image_id"] in annotated:
            raise ValueError(f"{source} is another of image_id {annotation['image_id']!r}")
        annotated.add(annotation["image_id"])
        segments = [_with_contiguous_id(s, classes, source) for s in annotation["segments_info"]]
        dicts.append(
            {
                **_of_image(image, image_root),
                "pan_seg_file_name": os.path.join(panoptic_root, annotation["file_name"]),
                "segments_info": segments,
            }
        )
    has_videos = any("sequence" in dataset_dict for dataset_dict in dicts)
    return join_frames(dicts, panoptic_json) if has_videos else dicts


def _of_image(image: Mapping[str, Any], image_root: str) -> Dict[str, Any]:
    """What the JSON tells of an image itself."""
    dataset_dict = {
        "file_name": os.path.join(image_root, image["file_name"]),
        "image_id": image["id"],
        "height": image["height"],
        "width": image["width"],
        **{key: image[key] for key in _OF_IMAGES if key in image},
    }
    if "depth_file_name" in image:
        dataset_dict["depth_file_name"] = os.path.join(image_root, image["depth_file_name"])
    return dataset_dict


def _with_contiguous_id(
    segment: Mapping[str, Any], classes: DatasetClasses, source: str
) -> Dict[str, Any]:
    category = segment["category_id"]
    contiguous = classes.category_ids.get(category)
    if contiguous is None:
        raise ValueError(
            f"{source}: segment {segment['id']} has category id {category}, which the dataset's "
            f"metadata does not have"
        )
    return {**segment, "category_id": contiguous, "isthing": classes.is_thing(contiguous)}


def register_own_datasets(root: str) -> List[str]:
    """
    Register the datasets of every folder below ``root`` that has a ``panoptic_dataset.json``.

    The file says what the folder holds; the converter writes it::

        {"name": "fruit",
         "categories": [{"id": 1, "name": "apple", "isthing": 1}, ...],
         "splits": {"train": {"images": "train", "panoptic": "panoptic_train",
                              "panoptic_json": "annotations/panoptic_train.json"}, ...}}

    A split is registered as ``fruit_train``; it may also have ``instances_json``, and then there
    is ``fruit_train_instances`` as well.

    Args:
        root: folder of all datasets.

    Returns:
        the names.

    Raises:
        ValueError: if such a file is not as above.
    """
    names = []
    for marker in sorted(glob.glob(os.path.join(glob.escape(root), "*", MARKER))):
        folder = os.path.dirname(marker)
        try:
            with open(marker) as f:
                content = json.load(f)
            metadata = panoptic_metadata(content["categories"])
            splits: Dict[str, Dict[str, Any]] = {
                f"{content['name']}_{split}": {
                    "image_root": os.path.join(folder, paths["images"]),
                    "panoptic_root": os.path.join(folder, paths["panoptic"]),
                    "panoptic_json": os.path.join(folder, paths["panoptic_json"]),
                    "instances_json": _join(folder, paths.get("instances_json")),
                }
                for split, paths in content["splits"].items()
            }
        except (KeyError, ValueError) as error:
            raise ValueError(f"{marker} does not describe a dataset: {error!r}") from error
        for name, paths in splits.items():
            register_panoptic_dataset(name, metadata, **paths)
            names.append(name)
    return names


def _join(folder: str, path: Optional[str]) -> Optional[str]:
    return None if path is None else os.path.join(folder, path)
