"""Annotations of COCO's instance format, held against what their readers need."""

import math
from typing import Any, Dict, Mapping

from .coco_masks import mask_fault
from .panoptic_json import IS_ID, IS_NAME, IS_NUMBER, IS_SIDE, first_fault


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


_RULES = {
    "images": (("id", IS_ID), ("height", IS_SIDE), ("width", IS_SIDE)),
    "categories": (("id", IS_NUMBER), ("name", IS_NAME)),
    "annotations": (
        ("id", IS_ID),
        ("image_id", IS_ID),
        ("category_id", IS_NUMBER),
        ("bbox", ("four numbers [x, y, width, height]", _is_box)),
        ("segmentation", ("there", lambda value: True)),
    ),
}
# Of annotations, where they are.
_OPTIONAL = (
    ("iscrowd", ("0 or 1", lambda value: value in (0, 1))),
    ("area", ("a number", _is_finite)),
)


def check_instances_json(content: Mapping[str, Any], path: str) -> None:
    """
    Refuse what is no annotation in COCO instance format. Masks are not looked at.

    Args:
        content: of the JSON.
        path: of the JSON, for errors.

    Raises:
        ValueError: naming the file, the entry, the rule and the value.
    """
    for part, rules in _RULES.items():
        if not isinstance(content.get(part), list):
            raise ValueError(f"{path} must have a list {part!r}, as COCO's instances have")
        for k, entry in enumerate(content[part]):
            fault = first_fault(entry, rules)
            if fault is None and part == "annotations":
                fault = first_fault(entry, [rule for rule in _OPTIONAL if rule[0] in entry])
            if fault is not None:
                identity = (
                    f" (id {entry['id']!r})" if isinstance(entry, dict) and "id" in entry else ""
                )
                raise ValueError(f"{path}: {part}[{k}]{identity}: {fault}")


def check_instance_masks(content: Mapping[str, Any], path: str) -> None:
    """
    Refuse an annotation in COCO instance format with a mask that its evaluation cannot read.

    Args:
        content: that :func:`check_instances_json` has let pass. Annotations of other images are not
            evaluated.
        path: of the JSON, for errors.

    Raises:
        ValueError: naming the first such annotation; polygons of two points or none count, too.
    """
    sizes: Dict[Any, Any] = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
    for annotation in content["annotations"]:
        size = sizes.get(annotation["image_id"])
        if size is None:
            continue
        fault = mask_fault(annotation["segmentation"], size, allows_short_polygons=False)
        if fault is not None:
            raise ValueError(
                f"{path}: annotation {annotation['id']} of image_id "
                f"{annotation['image_id']!r}: {fault}"
            )
