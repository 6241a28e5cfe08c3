"""The small file that says which datasets a folder holds: ``panoptic_dataset.json``."""

import json
import os
from typing import Any, Dict, List, Mapping, Sequence

from ..structures import check_output_name, short

# A file of this name in a folder below $DETECTRON2_DATASETS registers the datasets of the folder.
MARKER = "panoptic_dataset.json"
# Of a split: the folders of images and panoptic PNGs, and the annotation.
_PATHS = ("images", "panoptic", "panoptic_json")
# A marker is a list of classes and some paths; what is larger is another tool's file.
_MOST_BYTES = 16 * 2**20


def read_marker(path: str) -> Dict[str, Any]:
    """
    Read and check a marker.

    Args:
        path: of the file.

    Returns:
        ``name``, ``categories`` and ``splits``; see :func:`register_own_datasets`.

    Raises:
        OSError: if it cannot be read.
        ValueError: naming the file, the entry and the rule.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is no file (a link to nowhere, or a folder)")
    size = os.path.getsize(path)
    if size > _MOST_BYTES:
        raise ValueError(f"{path} must have at most {_MOST_BYTES} bytes, got {size}")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or not {"name", "categories", "splits"} <= set(content):
        raise ValueError(f"{path} must have 'name', 'categories' and 'splits', as a conversion's")
    if not isinstance(content["name"], str) or not content["name"]:
        raise ValueError(f"{path}: 'name' must be a text, got {content['name']!r}")
    check_categories(content["categories"], f"{path}: 'categories'")
    _check_splits(content["splits"], path)
    for split in content["splits"]:
        # It becomes a part of file names.
        check_output_name(f"{content['name']}_{split}", path)
    return content


def check_categories(categories: Any, source: str) -> None:
    """
    Refuse what is no list of categories; that ids and names differ, the registration checks.

    Args:
        categories: COCO's, each with ``id``, ``name`` and ``isthing``.
        source: named in errors.

    Raises:
        ValueError: naming the entry and the rule.
    """
    if not isinstance(categories, list) or not categories:
        raise ValueError(
            f"{source} must be a list of {{id, name, isthing}}, got {short(categories)}"
        )
    for k, category in enumerate(categories):
        entry = f"{source}[{k}]"
        if not isinstance(category, dict):
            raise ValueError(f"{entry} must be {{id, name, isthing}}, got {short(category)}")
        missing = [key for key in ("id", "name", "isthing") if key not in category]
        if missing:
            raise ValueError(f"{entry} must have {', '.join(missing)}, got {short(category)}")
        number, name = category["id"], category["name"]
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"{entry}: id must be a whole number from 0, got {number!r}")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{entry}: name must be a text, got {name!r}")


def _check_splits(splits: Any, path: str) -> None:
    if not isinstance(splits, dict):
        raise ValueError(f"{path}: 'splits' must be an object, got {short(splits)}")
    for split, paths in splits.items():
        entry = f"{path}: split {split!r}"
        if not isinstance(paths, dict):
            raise ValueError(f"{entry} must be an object of paths, got {short(paths)}")
        for key in _PATHS:
            if not isinstance(paths.get(key), str):
                raise ValueError(f"{entry}: {key!r} must be a path, got {paths.get(key)!r}")
        if not isinstance(paths.get("instances_json"), (str, type(None))):
            raise ValueError(
                f"{entry}: 'instances_json' must be a path, got {paths['instances_json']!r}"
            )


def split_paths(marker: Mapping[str, Any], folder: str) -> Dict[str, Dict[str, Any]]:
    """
    Where the datasets of a marker are.

    Args:
        marker: of :func:`read_marker`.
        folder: that the marker lies in.

    Returns:
        by name, the paths that :func:`register_panoptic_dataset` takes.
    """
    return {
        f"{marker['name']}_{split}": {
            "image_root": os.path.join(folder, paths["images"]),
            "panoptic_root": os.path.join(folder, paths["panoptic"]),
            "panoptic_json": os.path.join(folder, paths["panoptic_json"]),
            "instances_json": (
                os.path.join(folder, paths["instances_json"])
                if paths.get("instances_json")
                else None
            ),
        }
        for split, paths in marker["splits"].items()
    }


def find_broken(broken: Mapping[str, str], name: str) -> List[str]:
    """
    Why a dataset may not be registered.

    Args:
        broken: reasons by the path of a marker that could not be used.
        name: of the dataset that is not there.

    Returns:
        the reasons of markers whose folder the name begins with; else of all.
    """
    folders: Sequence[str] = list(broken)
    likely = [f for f in folders if name.startswith(os.path.basename(os.path.dirname(f)))]
    return [broken[path] for path in likely or folders]
