"""Images and instances of COCO's instance format, as exporters write it."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..structures import read_json_object, short
from .annotated_images import AnnotatedImage, Instance, plain_path, usable_segmentation
from .omissions import Omissions, leave_out

# PIL reads no larger image.
_MAX_PIXELS = 2 * 89_478_485


def images_of_coco_json(
    instances_json: str, omitted: Optional[Omissions] = None
) -> List[AnnotatedImage]:
    """
    Images and instances of a COCO instance annotation.

    Ids may be numbers or texts, also one in ``images`` and the other in ``annotations``.

    Args:
        instances_json: with ``images``, ``annotations`` and ``categories``.
        omitted: where annotations go that are of no image or category, or have no mask; None: the
            first of them is an error.

    Returns:
        the images, those without annotations included.

    Raises:
        ValueError: naming the file, if it is no such annotation.
    """
    content = _read(instances_json)
    names = {str(c["id"]): str(c["name"]) for c in content["categories"] if _has(c, "id", "name")}
    images: Dict[str, Tuple[Mapping[str, Any], List[Instance]]] = {}
    for k, image in enumerate(content["images"]):
        if _has(image, "id", "file_name") and isinstance(image["file_name"], str):
            images.setdefault(str(image["id"]), (image, []))
        else:
            detail = f"{instances_json}: images[{k}]: {short(image)}"
            leave_out(omitted, "image without id or file_name", detail)
    for k, annotation in enumerate(content["annotations"]):
        source = f"{instances_json}: annotations[{k}]"
        if not _has(annotation, "image_id", "category_id"):
            kind = "annotation without image_id or category_id"
            leave_out(omitted, kind, f"{source}: {short(annotation)}")
            continue
        source += f" (id {annotation.get('id')!r})"
        entry = images.get(str(annotation["image_id"]))
        name = names.get(str(annotation["category_id"]))
        if entry is None:
            detail = f"{source}: image_id {annotation['image_id']!r}"
            leave_out(omitted, "annotation of no image", detail)
        elif name is None:
            detail = f"{source}: category_id {annotation['category_id']!r}"
            leave_out(omitted, "annotation of no category", detail)
        else:
            source += f" of {entry[0]['file_name']}"
            mask = usable_segmentation(annotation.get("segmentation"), source, omitted)
            if mask is not None:
                entry[1].append((name, mask, bool(annotation.get("iscrowd", 0))))
    return [
        AnnotatedImage(plain_path(image["file_name"]), instances, size_in(image))
        for image, instances in images.values()
    ]


def categories_of_coco_json(path: str) -> List[Dict[str, Any]]:
    """
    The categories of a COCO annotation; those that do not say whether they are things are.

    Raises:
        ValueError: naming the file, if there are none, or one of them has no number as its id.
    """
    categories = _read(path, needed=("categories",))["categories"]
    return [
        _category(category, f"{path}: categories[{k}]") for k, category in enumerate(categories)
    ]


def _category(category: Any, source: str) -> Dict[str, Any]:
    if not _has(category, "id", "name") or not str(category["id"]).isdigit():
        raise ValueError(f"{source} must have a number as id, and a name, got {short(category)}")
    kept = {"id": int(category["id"]), "name": str(category["name"])}
    kept["isthing"] = category.get("isthing", 1)
    return {**kept, "color": category["color"]} if "color" in category else kept


def size_in(entry: Mapping[str, Any]) -> Optional[Tuple[int, int]]:
    """The (height, width) that an annotation tells of its image, unless PIL reads none so large."""
    try:
        height, width = int(entry["height"]), int(entry["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    is_size = height > 0 and width > 0 and height * width <= _MAX_PIXELS
    return (height, width) if is_size else None


def _read(
    path: str, needed: Tuple[str, ...] = ("images", "annotations", "categories")
) -> Dict[str, Any]:
    content = read_json_object(path)
    for key in needed:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{path} must have a list {key!r}, got {short(content.get(key))}")
    return content


def _has(entry: Any, *keys: str) -> bool:
    return isinstance(entry, dict) and all(entry.get(key) is not None for key in keys)
