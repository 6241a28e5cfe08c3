"""
Annotations of COCO's panoptic format, held against what their readers need.

What trains, what evaluates and what inspects a dataset all come through here, so that none of them
stumbles over an entry that another one has let pass.
"""

import json
from collections import Counter
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from detectron2.utils.file_io import PathManager


class JsonFault(NamedTuple):
    """
    An entry that is not as the format has it.

    Attributes:
        kind: "broken_entry" for one that no reader can do without, "missing_entry" for one that is
            worked out by this package alone.
        part: of the JSON: "images", "annotations" or "categories".
        detail: which entry, the rule and the value.
    """

    kind: str
    part: str
    detail: str


class PanopticJson(NamedTuple):
    """
    An annotation without its broken entries.

    Attributes:
        images: by id, in their order.
        annotations: in their order; their ``image_id`` may be of no image.
        faults: of what is there no more, and of what is missing.
        broken_ids: of images that are broken.
    """

    images: Dict[Any, Dict[str, Any]]
    annotations: List[Dict[str, Any]]
    faults: List[JsonFault]
    broken_ids: List[Any]


def read_json_object(path: str) -> Dict[str, Any]:
    """
    Read a JSON whose content is an object.

    Raises:
        OSError: if it cannot be read.
        ValueError: naming the file, if it is no such JSON.
    """
    with PathManager.open(path) as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must be an object of images and annotations, got {short(content)}"
        )
    return content


def check_panoptic_json(
    content: Mapping[str, Any], path: str, *, parts: Sequence[str] = ("images", "annotations")
) -> PanopticJson:
    """
    The entries of an annotation, all of which are as they have to be.

    Args:
        content: of the JSON.
        path: of the JSON, for errors.
        parts: those that are needed.

    Raises:
        ValueError: naming the file, the entry, the rule and the value.
    """
    sifted = sift_panoptic_json(content)
    for fault in sifted.faults:
        if fault.kind == "broken_entry" and fault.part in parts:
            raise ValueError(f"{path}: {fault.detail}")
    return sifted


def sift_panoptic_json(content: Mapping[str, Any]) -> PanopticJson:
    """
    The entries of an annotation that are as they have to be, and what is wrong with the others.

    Args:
        content: of the JSON.
    """
    sifted = PanopticJson({}, [], [], [])

    def refuse(part: str, detail: str, kind: str = "broken_entry") -> None:
        sifted.faults.append(JsonFault(kind, part, detail))

    lists: Dict[str, List[Any]] = {}
    for key in ("images", "annotations"):
        lists[key] = content[key] if isinstance(content.get(key), list) else []
        if lists[key] is not content.get(key):
            refuse(key, f"there must be a list {key!r}, got {short(content.get(key))}")
    for k, image in enumerate(lists["images"]):
        reason = _image_fault(image)
        if reason is None and image["id"] in sifted.images:
            reason = f"id {image['id']!r} is twice in images"
        if reason is None:
            sifted.images[image["id"]] = image
        else:
            refuse("images", f"{_entry('images', k, image)}{reason}")
            if isinstance(image, dict):
                sifted.broken_ids.append(image.get("id"))
    for k, annotation in enumerate(lists["annotations"]):
        entry = _entry("annotations", k, annotation)
        reason = _annotation_fault(annotation)
        if reason is None:
            sifted.annotations.append(annotation)
            missing = _missing_of_segments(annotation["segments_info"])
            if missing:
                refuse("annotations", f"{entry}segments lack {missing}", "missing_entry")
        else:
            refuse("annotations", f"{entry}{reason}")
    if not has_categories(content):
        detail = "there is no list 'categories' of {id, name, isthing}"
        refuse("categories", detail, "missing_entry")
    return sifted


def has_categories(content: Mapping[str, Any]) -> bool:
    """Whether an annotation says which of its categories are things."""
    categories = content.get("categories")
    return (
        isinstance(categories, list)
        and bool(categories)
        and all(isinstance(c, dict) and {"id", "isthing"} <= set(c) for c in categories)
    )


def describe_unknown_image(image_id: Any, images: Mapping[Any, Any]) -> str:
    """What is wrong with the id of an image that is not in the list."""
    kinds = {str(known): type(known).__name__ for known in images}
    other = kinds.get(str(image_id))
    text = f"image_id {image_id!r}, which is not among the images"
    return f"{text}: there it is of type {other}" if other else text


def check_distinct(image_ids: Iterable[Any], source: str, what: str = "") -> None:
    """
    Args:
        image_ids: of images that should differ.
        source: what has them, for errors.
        what: the part of it that has them, for errors; "" for the whole.

    Raises:
        ValueError: if an image is there twice.
    """
    twice = [image_id for image_id, count in Counter(image_ids).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} must have each image once{what and f' in its {what}'}, got {len(twice)} of "
            f"them more often, such as image_id {twice[0]!r}"
        )


def short(value: Any) -> str:
    """A value as errors show it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _entry(key: str, k: int, entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return f"{key}[{k}] ({name}): " if isinstance(name, str) else f"{key}[{k}]: "


def _image_fault(image: Any) -> Optional[str]:
    fault = first_fault(image, (("id", IS_ID), ("file_name", IS_NAME)))
    return fault or first_fault(image, (("height", IS_SIDE), ("width", IS_SIDE)))


def _annotation_fault(annotation: Any) -> Optional[str]:
    fault = first_fault(
        annotation, (("image_id", IS_ID), ("file_name", IS_NAME), ("segments_info", IS_LIST))
    )
    if fault is not None:
        return fault
    for k, segment in enumerate(annotation["segments_info"]):
        fault = first_fault(segment, (("id", IS_NUMBER), ("category_id", IS_NUMBER)))
        if fault is None and segment.get("iscrowd", 0) not in (0, 1):
            fault = f"iscrowd must be 0 or 1, got {short(segment['iscrowd'])}"
        if fault is None and not isinstance(segment.get("area", 0), (int, float)):
            fault = f"area must be a number, got {short(segment['area'])}"
        if fault is not None:
            return f"segments_info[{k}]: {fault}"
    return None


Rule = Tuple[str, Any]
# Ids may be texts, as Cityscapes' are; a whole number is no bool.
IS_ID: Rule = ("a number or a text", lambda v: type(v) in (int, str))
IS_NAME: Rule = ("a path", lambda v: isinstance(v, str) and bool(v))
IS_SIDE: Rule = ("a whole number from 1", lambda v: type(v) is int and v > 0)
IS_NUMBER: Rule = ("a whole number", lambda v: type(v) is int)
IS_LIST: Rule = ("a list", lambda v: isinstance(v, list))


def first_fault(entry: Any, rules: Sequence[Tuple[str, Rule]]) -> Optional[str]:
    """What is wrong with the first entry of an object that is absent or breaks its rule."""
    if not isinstance(entry, dict):
        return f"it must be an object, got {short(entry)}"
    for key, (rule, holds) in rules:
        if key not in entry:
            return f"it must have {key!r}"
        if not holds(entry[key]):
            return f"{key} must be {rule}, got {short(entry[key])}"
    return None


def _missing_of_segments(segments: Sequence[Mapping[str, Any]]) -> str:
    def missing() -> Iterator[str]:
        for key in ("area", "iscrowd"):
            if any(key not in segment for segment in segments):
                yield key

    return ", ".join(missing())
