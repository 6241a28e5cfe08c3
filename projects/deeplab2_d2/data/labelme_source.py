"""Images and instances of LabelMe: a JSON beside each image, with shapes that have labels."""

import base64
import io
import math
import os
import struct
import zlib
from typing import Any, Dict, Iterable, List, Optional, Tuple

import numpy as np
from PIL import Image

from ..structures import list_image_names, read_json_object, short
from .annotated_images import AnnotatedImage, Instance, plain_path
from .coco_source import size_in
from .mask_files import decode_segmentation
from .omissions import Omissions, leave_out

# What points that are none raise, and images that cannot be read.
_UNUSABLE = (
    *(TypeError, ValueError, OverflowError, OSError, SyntaxError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
# Corners of the polygon that stands for a circle.
_CIRCLE_CORNERS = 72


def images_of_labelme(
    folder: str, image_root: str, omitted: Optional[Omissions] = None
) -> List[AnnotatedImage]:
    """
    Images and instances of a folder of LabelMe's JSONs.

    Polygons, rectangles, circles and masks are read; shapes of one label with one ``group_id`` are
    one instance. An image is the file of ``image_root`` that ``imagePath`` ends in, or that is
    called as the JSON is.

    Args:
        folder: of the JSONs.
        image_root: folder of the images.
        omitted: where shapes without an area go; None: the first of them is an error.

    Raises:
        FileNotFoundError: if the folder has no JSON, or an image is not there.
        ValueError: naming the file that is none of LabelMe's.
    """
    names = sorted(n for n in os.listdir(folder) if n.endswith(".json") and not n.startswith("."))
    if not names:
        raise FileNotFoundError(f"folder {folder} has no JSON of LabelMe")
    images = dict.fromkeys(list_image_names(image_root))
    stems = {os.path.splitext(name)[0]: name for name in images}
    found = []
    for name in names:
        path = os.path.join(folder, name)
        content = read_json_object(path)
        if not isinstance(content.get("shapes"), list):
            got = short(content.get("shapes"))
            raise ValueError(f"{path} must have a list 'shapes', as LabelMe's JSONs, got {got}")
        stem = os.path.splitext(name)[0]
        meant = os.path.basename(plain_path(str(content.get("imagePath", ""))))
        file = meant if meant in images else stems.get(stem)
        if file is None:
            raise FileNotFoundError(f"{path}: {image_root} has neither {meant!r} nor {stem}.*")
        size = size_in({"height": content.get("imageHeight"), "width": content.get("imageWidth")})
        instances = _instances(content["shapes"], size, path, omitted)
        found.append(AnnotatedImage(file, instances, size, may_be_stuff=True))
    return found


def _instances(
    shapes: List[Any], size: Optional[Tuple[int, int]], path: str, omitted: Optional[Omissions]
) -> List[Instance]:
    groups: Dict[Any, Tuple[str, List[Any]]] = {}
    for k, shape in enumerate(shapes):
        source = f"{path}: shapes[{k}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            leave_out(omitted, "shape without a label", f"{source}: {short(shape)}")
            continue
        try:
            part = _part(shape, size)
        except _UNUSABLE as error:
            detail = f"{source} ({shape['label']}): {error}"
            leave_out(omitted, "shape that cannot be used", detail)
            continue
        group = shape.get("group_id")
        key = k if group is None else (shape["label"], str(group))
        groups.setdefault(key, (shape["label"], []))[1].append(part)
    return join_groups(groups.values(), size, path, omitted)


def join_groups(
    groups: Iterable[Tuple[str, List[Any]]],
    size: Optional[Tuple[int, int]],
    source: str,
    omitted: Optional[Omissions],
) -> List[Instance]:
    """
    An instance of each group of shapes.

    Args:
        groups: label and parts of each, polygons ``[x, y, ...]`` and (H, W) masks.
        size: (height, width) of the image; None only where there are no masks.
        source: named where something is left out.
        omitted: see :func:`leave_out`.
    """
    instances: List[Instance] = []
    for label, parts in groups:
        try:
            instances.append((label, _join(parts, size), False))
        except ValueError as error:
            leave_out(omitted, "shape that cannot be used", f"{source} ({label}): {error}")
    return instances


def _join(parts: List[Any], size: Optional[Tuple[int, int]]) -> Any:
    polygons = [part for part in parts if isinstance(part, list)]
    masks = [part for part in parts if not isinstance(part, list)]
    if not masks:
        return polygons
    if polygons:
        assert size is not None
        masks.append(decode_segmentation(polygons, size))
    return np.any(masks, axis=0)


def _part(shape: Dict[str, Any], size: Optional[Tuple[int, int]]) -> Any:
    """A polygon ``[x, y, ...]``, or an (H, W) bool mask."""
    kind = shape.get("shape_type", "polygon")
    points = [(float(x), float(y)) for x, y in shape.get("points") or ()]
    if kind == "polygon" and len(points) >= 3:
        return [value for point in points for value in point]
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * k / _CIRCLE_CORNERS for k in range(_CIRCLE_CORNERS)]
        return [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]
    if kind == "mask" and len(points) == 2 and isinstance(shape.get("mask"), str):
        return _place_mask(shape["mask"], points[0], size)
    raise ValueError(f"a {kind} of {len(points)} points has no area")


def _place_mask(
    text: str, corner: Tuple[float, float], size: Optional[Tuple[int, int]]
) -> np.ndarray:
    if size is None:
        raise ValueError("a mask needs imageHeight and imageWidth")
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        inside = np.asarray(image.convert("L")) > 0
    x, y = (int(value) for value in corner)
    mask = np.zeros(size, bool)
    target = mask[y : y + inside.shape[0], x : x + inside.shape[1]]
    if min(x, y) < 0 or target.shape != inside.shape:
        raise ValueError(f"a mask must lie in the image of {size}, got {inside.shape} at {corner}")
    target[:] = inside
    return mask
