"""Images and instances of "CVAT for images 1.1": one XML with an element for each image."""

from typing import Any, Dict, List, Optional, Tuple
from xml.etree import ElementTree

import numpy as np

from .annotated_images import AnnotatedImage, Instance, plain_path
from .coco_source import size_in
from .labelme_source import join_groups
from .omissions import Omissions, leave_out

_Size = Optional[Tuple[int, int]]
# Elements of an image that say something about it, and are no shapes.
_NO_SHAPES = ("tag",)


def images_of_cvat(path: str, omitted: Optional[Omissions] = None) -> List[AnnotatedImage]:
    """
    Images and instances of a CVAT export.

    Polygons and masks are read; those of one label with one ``group_id`` are one instance.

    Args:
        path: of the XML.
        omitted: where boxes, lines and points go; None: the first of them is an error.

    Raises:
        ValueError: naming the file, if it is no such export.
    """
    root = _read(path)
    images = []
    for element in root.findall("image"):
        name, size = element.get("name"), size_in(element.attrib)
        if not name:
            leave_out(omitted, "image without a name", f"{path}: image {element.get('id')!r}")
            continue
        instances = _instances(element, size, f"{path}: {name}", omitted)
        images.append(AnnotatedImage(plain_path(name), instances, size, may_be_stuff=True))
    if not images:
        raise ValueError(f"{path} must have images with names, as CVAT for images 1.1, got none")
    return images


def labels_of_cvat(path: str) -> List[str]:
    """The labels that a CVAT export lists, in their order; none where it has no list."""
    names = (label.findtext("name") for label in _read(path).iter("label"))
    return list(dict.fromkeys(name for name in names if name))


def _read(path: str) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path} is no XML: {error}") from error
    if root.tag != "annotations":
        raise ValueError(f"{path} must be of CVAT for images, <annotations>, got <{root.tag}>")
    return root


def _instances(
    image: ElementTree.Element, size: _Size, source: str, omitted: Optional[Omissions]
) -> List[Instance]:
    groups: Dict[Any, Tuple[str, List[Any]]] = {}
    for k, shape in enumerate(image):
        if shape.tag in _NO_SHAPES:
            continue
        label = shape.get("label")
        try:
            if not label:
                raise ValueError("it has no label")
            part = _part(shape, size)
        except (TypeError, ValueError) as error:
            detail = f"{source}: {shape.tag} {k + 1} ({label}): {error}"
            leave_out(omitted, "shape that cannot be used", detail)
            continue
        group = shape.get("group_id")
        key = k if group in (None, "0") else (label, group)
        groups.setdefault(key, (label, []))[1].append(part)
    return join_groups(groups.values(), size, source, omitted)


def _part(shape: ElementTree.Element, size: _Size) -> Any:
    """A polygon ``[x, y, ...]``, or an (H, W) bool mask."""
    if shape.tag == "polygon":
        points = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
        if len(points) < 3 or any(len(point) != 2 for point in points):
            raise ValueError(f"it must have three points or more, got {len(points)}")
        return [float(value) for point in points for value in point]
    if shape.tag == "mask":
        return _place_mask(shape, size)
    raise ValueError(f"a {shape.tag} is no mask")


def _place_mask(shape: ElementTree.Element, size: _Size) -> np.ndarray:
    """CVAT's runs go along the rows of the box around the mask, outside first."""
    if size is None:
        raise ValueError("a mask needs the width and the height of its image")
    left, top, width, height = (int(shape.get(k, "-1")) for k in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.get("rle", "").split(",")]
    is_in = min(left, top) >= 0 and top + height <= size[0] and left + width <= size[1]
    if not is_in or min(width, height) < 1 or min(runs) < 0 or sum(runs) != width * height:
        raise ValueError(f"its runs and its box must fit the image of {size}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = inside
    return mask
