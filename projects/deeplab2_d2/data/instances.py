"""
Instance annotations joined to the panoptic ones of the same images.

The masks of COCO's instance format may overlap, those of a panoptic map cannot: a model that learns
which thing is in front has to see both.
"""

import logging
from collections import defaultdict
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..structures import DatasetClasses, check_instances_json, mask_fault, read_json_object

logger = logging.getLogger(__name__)

# What an annotation may tell beside COCO's entries: its place in the order in which the things of
# the image cover each other, 0 the lowest.
_OF_ANNOTATIONS = ("paint_order",)


class Disagreement(NamedTuple):
    """
    Where instance and panoptic annotation do not fit together.

    Attributes:
        kind: of :mod:`.findings`.
        detail: the image or annotation, the rule and the values.
    """

    kind: str
    detail: str


def load_instances_json(
    instances_json: str,
    dicts: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any],
    *,
    panoptic_json: str,
) -> List[Dict[str, Any]]:
    """
    Add the instances of each image to its dict.

    Args:
        instances_json: annotation in COCO instance format. An annotation may also have
            ``paint_order``, its place in the order in which the things of the image cover each
            other, 0 the lowest.
        dicts: of the panoptic annotation, with ``image_id``, ``file_name``, ``height`` and
            ``width``; not changed.
        metadata: maps from category to contiguous ids.
        panoptic_json: where the dicts are from, named in errors.

    Returns:
        new dicts that have ``annotations`` as well, in Detectron2's format: ``id``, ``bbox``,
        ``bbox_mode``, ``segmentation`` (polygons or compressed RLE), ``iscrowd``, and
        ``category_id``, the place of the class among the things of the metadata, counted from 0.
        An annotation without a mask (polygons of two points) is left out, as in Detectron2.

    Raises:
        FileNotFoundError: if the JSON is not there.
        ValueError: if it is no such annotation, or disagrees with the panoptic one: see
            :func:`find_disagreements`.
    """
    content = read_instances_json(instances_json)
    classes = DatasetClasses.from_metadata(metadata, needs_things=False)
    images = {d["image_id"]: d for d in dicts}
    for disagreement in find_disagreements(content, images, classes, panoptic_json):
        raise ValueError(f"{instances_json}: {disagreement.detail}")
    indices = {category: classes.thing_ids.index(k) for category, k in _things(classes).items()}
    by_image: Dict[Any, List[Dict[str, Any]]] = defaultdict(list)
    num_without_mask = 0
    for annotation in content["annotations"]:
        segmentation = _valid_segmentation(annotation["segmentation"])
        if segmentation is None:
            num_without_mask += 1
            continue
        by_image[annotation["image_id"]].append(
            {
                "id": annotation["id"],
                "iscrowd": annotation.get("iscrowd", 0),
                "bbox": annotation["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": indices[annotation["category_id"]],
                "segmentation": segmentation,
                **{key: annotation[key] for key in _OF_ANNOTATIONS if key in annotation},
            }
        )
    if num_without_mask:
        logger.warning(
            "%s: left out %d annotations without a mask", instances_json, num_without_mask
        )
    return [{**d, "annotations": by_image[d["image_id"]]} for d in dicts]


def read_instances_json(instances_json: str) -> Dict[str, Any]:
    """
    The content of an annotation in COCO instance format.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no JSON, or an entry that has to be there is not.
    """
    if not PathManager.isfile(instances_json):
        raise FileNotFoundError(
            f"instances JSON {instances_json} does not exist; datasets with annotations of "
            f"instances need it beside the panoptic one"
        )
    content = read_json_object(instances_json)
    check_instances_json(content, instances_json)
    return content


def find_disagreements(
    content: Mapping[str, Any],
    images: Mapping[Any, Mapping[str, Any]],
    classes: DatasetClasses,
    panoptic_json: str,
) -> Iterator[Disagreement]:
    """
    Where an instance annotation does not fit the panoptic one.

    Both must list the same images with the same sizes, the categories must be the things of the
    dataset by id and name, and each annotation must be of an image and a category of the list, with
    a mask in which :func:`mask_fault` finds nothing.

    Args:
        content: of the instances JSON.
        images: those with a panoptic annotation, by id: ``file_name``, ``height``, ``width``.
        classes: of the dataset.
        panoptic_json: named in the details.

    Yields:
        one after the other, classes first.
    """
    things = {id_: classes.names[k] for id_, k in _things(classes).items()}
    found = {category["id"]: category["name"] for category in content["categories"]}
    if found != things:
        more, fewer = (
            [f"{id_} {name}" for id_, name in sorted(one.items()) if other.get(id_) != name]
            for one, other in ((found, things), (things, found))
        )
        yield Disagreement(
            "other_things",
            f"categories must be the things of the dataset's metadata, but only the file has "
            f"{more} and only the metadata have {fewer}",
        )
    yield from _image_disagreements(content["images"], images, panoptic_json)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        source = f"annotation {annotation['id']} of image_id {annotation['image_id']!r}"
        size = sizes.get(annotation["image_id"])
        if size is None:
            yield Disagreement("unknown_image_id", f"{source}: must be of one of the images")
        elif annotation["category_id"] not in found:
            yield Disagreement(
                "unknown_category",
                f"{source}: category_id must be of the categories, got {annotation['category_id']}",
            )
        else:
            wrong = mask_fault(annotation["segmentation"], size)
            if wrong:
                yield Disagreement("instance_size", f"{source}: {wrong}")


def _things(classes: DatasetClasses) -> Dict[int, int]:
    """From category ids to contiguous ids, of things alone."""
    return {id_: k for id_, k in classes.category_ids.items() if classes.is_thing(k)}


def _image_disagreements(
    listed: Sequence[Mapping[str, Any]],
    images: Mapping[Any, Mapping[str, Any]],
    panoptic_json: str,
) -> Iterator[Disagreement]:
    seen = set()
    for entry in listed:
        seen.add(entry["id"])
        name = f"image_id {entry['id']!r} ({entry.get('file_name')})"
        image = images.get(entry["id"])
        if image is None:
            yield Disagreement(
                "unpaired_image",
                f"{name} has no annotation in {panoptic_json}; both must have the same images",
            )
            continue
        size, wanted = ((e["height"], e["width"]) for e in (entry, image))
        if size != wanted:
            yield Disagreement(
                "instance_size",
                f"{name} must have the same size as in {panoptic_json}, {wanted[0]} x "
                f"{wanted[1]}, got {size[0]} x {size[1]}",
            )
    for image_id, image in images.items():
        if image_id not in seen:
            yield Disagreement(
                "unpaired_image",
                f"image_id {image_id!r} ({image['file_name']}) of {panoptic_json} is not among "
                f"the images; both must have the same images",
            )


def _valid_segmentation(segmentation: Any) -> Any:
    """Polygons of three points or more as floats, or compressed RLE; None if nothing is left."""
    from pycocotools import mask as mask_util

    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return mask_util.frPyObjects(segmentation, *segmentation["size"])
        return segmentation
    # Whole numbers would be cut off by a transform of coordinates, which works in place.
    polygons = [
        np.asarray(polygon, dtype=np.float64).tolist()
        for polygon in segmentation
        if len(polygon) % 2 == 0 and len(polygon) >= 6
    ]
    return polygons or None
