"""Registering datasets in COCO panoptic format, one's own among them."""

import glob
import logging
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import (
    DatasetClasses,
    check_panoptic_json,
    describe_unknown_image,
    is_thing_category,
    read_json_object,
)
from .instances import load_instances_json
from .marker import MARKER, find_broken, read_marker, split_paths
from .sequences import join_frames

logger = logging.getLogger(__name__)

# Why markers could not be used, by their paths: told to who asks for a dataset that is not there.
_BROKEN_MARKERS: Dict[str, str] = {}
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
        ValueError: if an entry is not as the format has it, an image or its annotation is there
            twice, an annotation has no image in the list or a category that the metadata lacks, or
            if only some images have a place in a video.
    """
    content = check_panoptic_json(read_json_object(panoptic_json), panoptic_json)
    classes = DatasetClasses.from_metadata(metadata, needs_things=False)
    annotated = set()
    dicts: List[Dict[str, Any]] = []
    for annotation in content.annotations:
        image = content.images.get(annotation["image_id"])
        source = f"{panoptic_json}: annotation {annotation['file_name']}"
        if image is None:
            unknown = describe_unknown_image(annotation["image_id"], content.images)
            raise ValueError(f"{source} has {unknown}")
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

    A file that cannot be used is left out with a warning: an import must not fail because of a
    dataset that nobody asked for.

    Args:
        root: folder of all datasets.

    Returns:
        the names.
    """
    names = []
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "*", MARKER))):
        _BROKEN_MARKERS.pop(path, None)
        try:
            marker = read_marker(path)
            metadata = panoptic_metadata(marker["categories"])
        except (OSError, ValueError) as error:
            _BROKEN_MARKERS[path] = f"{path} cannot be used: {error}"
            logger.warning("%s; its datasets are not registered", _BROKEN_MARKERS[path])
            continue
        for name, paths in split_paths(marker, os.path.dirname(path)).items():
            register_panoptic_dataset(name, metadata, **paths)
            names.append(name)
            found = MetadataCatalog.get(name).get("panoptic_json")
            if found != paths["panoptic_json"]:
                logger.warning("dataset %s of %s is not registered: %s has it", name, path, found)
    return names


def broken_markers(name: str) -> List[str]:
    """
    Why files that may have described a dataset could not be used.

    Args:
        name: of the dataset that is not there.

    Returns:
        a sentence for each.
    """
    return find_broken(_BROKEN_MARKERS, name)
