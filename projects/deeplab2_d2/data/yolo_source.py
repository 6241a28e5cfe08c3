"""Images and instances of YOLO's segment format: a text file an image, a polygon a line."""

import math
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..structures import list_image_names, photo_size, short
from .annotated_images import AnnotatedImage, Instance
from .omissions import Omissions, leave_out


def images_of_yolo(
    folder: str,
    image_root: str,
    categories: Sequence[Mapping[str, Any]],
    omitted: Optional[Omissions] = None,
) -> List[AnnotatedImage]:
    """
    Images and instances of a folder of YOLO's label files.

    A line is ``class x y x y ...``, the class as its place in the list of categories, counted from
    0, and coordinates in parts of the width and the height. An image without a file has no
    instances.

    Args:
        folder: of the label files, ``<image without its ending>.txt``.
        image_root: folder of the images.
        categories: in the order of the classes.
        omitted: where boxes and lines that are none go; None: the first of them is an error.

    Raises:
        FileNotFoundError: if ``image_root`` has no image, or none of them a label file.
    """
    names = list_image_names(image_root)
    files = {n: os.path.join(folder, os.path.splitext(n)[0] + ".txt") for n in names}
    if not any(map(os.path.isfile, files.values())):
        raise FileNotFoundError(f"folder {folder} has no label file of an image of {image_root}")
    images = []
    for name, file in files.items():
        try:
            size = photo_size(os.path.join(image_root, name))
        except ValueError:
            images.append(AnnotatedImage(name))  # Whoever reads its pixels tells.
            continue
        lines: List[str] = []
        if os.path.isfile(file):
            with open(file, encoding="utf-8", errors="replace") as content:
                lines = content.read().splitlines()
        instances = _instances(lines, size, file, categories, omitted)
        images.append(AnnotatedImage(name, instances, size, may_be_stuff=True))
    return images


def categories_of_yolo(content: Any, source: str) -> List[Dict[str, Any]]:
    """
    Categories of the ``names`` of a ``data.yaml``, all of them things, with ids from 1.

    Args:
        content: of the file.
        source: the file, for errors.

    Raises:
        ValueError: if it has no names.
    """
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{source} must have 'names' of the classes 0, 1, ..., got {short(names)}")
    return [{"id": k + 1, "name": str(name), "isthing": 1} for k, name in enumerate(names)]


def _instances(
    lines: Sequence[str],
    size: Tuple[int, int],
    file: str,
    categories: Sequence[Mapping[str, Any]],
    omitted: Optional[Omissions],
) -> List[Instance]:
    instances: List[Instance] = []
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if not values:
            continue
        source = f"{file}: line {number}"
        try:
            k, coordinates = int(float(values[0])), [float(value) for value in values[1:]]
        except (OverflowError, ValueError):
            leave_out(omitted, "line that is no polygon", f"{source}: {short(line)}")
            continue
        if len(coordinates) == 4:
            leave_out(omitted, "instance without a mask (a box alone, or nothing)", source)
        elif (
            len(coordinates) < 6 or len(coordinates) % 2 or not all(map(math.isfinite, coordinates))
        ):
            leave_out(omitted, "line that is no polygon", f"{source}: {short(line)}")
        elif not 0 <= k < len(categories):
            detail = f"{source}: class {k}, there are {len(categories)}"
            leave_out(omitted, "annotation of no category", detail)
        else:
            scale = (size[1], size[0])
            polygon = [value * scale[i % 2] for i, value in enumerate(coordinates)]
            instances.append((str(categories[k]["name"]), [polygon], False))
    return instances
