"""The classes of a conversion: from a file of their own, from an earlier split, or the source."""

import json
import os
from typing import Any, Dict, Iterable, List, Optional

from detectron2.data import MetadataCatalog

from ..structures import load_plain_yaml
from .coco_source import categories_of_coco_json
from .marker import MARKER, check_categories, read_marker
from .yolo_source import categories_of_yolo


def read_categories(path: str) -> List[Dict[str, Any]]:
    """
    Read a file of classes.

    Args:
        path: a JSON list of ``{id, name, isthing[, color]}``; a JSON of COCO's, whose
            ``categories`` are things where they do not say; or YOLO's ``data.yaml`` with ``names``,
            all of them things.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: naming the file, the entry and the rule.
    """
    is_yaml = path.endswith((".yaml", ".yml"))
    with open(path, "rb") as file:
        text = file.read()
    try:
        content = load_plain_yaml(text, path) if is_yaml else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--categories {path} cannot be read: {error}") from error
    if is_yaml:
        return categories_of_yolo(content, path)
    if isinstance(content, dict) and "categories" in content:
        return categories_of_coco_json(path)
    check_categories(content, f"--categories {path}")
    return content


def categories_of_folder(folder: str) -> Optional[List[Dict[str, Any]]]:
    """The classes of a dataset that a folder has already; None where there is none."""
    path = os.path.join(folder, MARKER)
    return read_marker(path)["categories"] if os.path.lexists(path) else None


def categories_of_dataset(name: str) -> List[Dict[str, Any]]:
    """The things of a dataset that is registered with Detectron2, by its own ids if it has such."""
    metadata = MetadataCatalog.get(name)
    names = list(metadata.thing_classes)
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {k + 1: k for k in range(len(names))}
    return [{"id": id_, "name": names[k], "isthing": 1} for id_, k in sorted(ids.items())]


def categories_of_names(names: Iterable[str]) -> List[Dict[str, Any]]:
    """Things with ids from 1, in the order of their names."""
    return [{"id": k, "name": name, "isthing": 1} for k, name in enumerate(names, start=1)]


def with_background(
    categories: List[Dict[str, Any]], background: Optional[str]
) -> List[Dict[str, Any]]:
    """The classes and, where none of them has this name, one more that is stuff."""
    if background is None or any(c["name"] == background for c in categories):
        return categories
    number = max(c["id"] for c in categories) + 1
    return [*categories, {"id": number, "name": background, "isthing": 0}]
