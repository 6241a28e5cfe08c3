"""Datasets of images with one class each, laid out as ImageNet is: a folder a class."""

import os
from typing import Any, Dict, List, Tuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import read_json_object

SPLITS = ("train", "val")
# `evaluator_type` of such datasets.
CLASSIFICATION_TYPE = "image_classification"

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_LAYOUT = "train/<class>/*.jpg and val/<class>/*.jpg"


def register_image_folder(name: str, root: str, class_index: str = "") -> Tuple[str, ...]:
    """
    Register ``<name>_train`` and ``<name>_val``, as far as no dataset has these names; again, once
    the folder is there, to give them their classes.

    Their dicts have ``file_name``, ``image_id`` (the path below ``root``) and ``class_id``, the
    contiguous id; their metadata ``stuff_classes`` (the classes' names), ``image_root`` and
    ``evaluator_type`` "image_classification". Images are looked for when the dicts are.

    Args:
        name: before ``_train`` and ``_val``.
        root: folder with ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``, any kind of image, also
            in folders below.
        class_index: see :func:`read_class_index`; "": the folders of ``train``, sorted.

    Returns:
        The names of both.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_class_index`.
    """
    names = read_class_index(class_index)[1] if class_index else _folders(root)
    registered = tuple(f"{name}_{split}" for split in SPLITS)
    for split, full_name in zip(SPLITS, registered):
        metadata = MetadataCatalog.get(full_name)
        if full_name not in DatasetCatalog.list():
            DatasetCatalog.register(
                full_name, lambda split=split: load_image_folder(root, split, class_index)
            )
            image_root = os.path.join(root, split)
            metadata.set(image_root=image_root, evaluator_type=CLASSIFICATION_TYPE)
        is_ours = metadata.get("image_root") == os.path.join(root, split)
        if is_ours and names and metadata.get("stuff_classes") is None:
            metadata.set(stuff_classes=names)
    return registered


def load_image_folder(root: str, split: str, class_index: str = "") -> List[Dict[str, Any]]:
    """
    Dataset dicts of a split, sorted by class and path.

    Args:
        root, class_index: see :func:`register_image_folder`.
        split: "train" or "val".

    Raises:
        FileNotFoundError: if the split's folder is not there.
        ValueError: if it has an image outside of a class's folder, a folder that is no class, or
            no image.
    """
    class_folders, _ = _classes(root, class_index)
    folder = os.path.join(root, split)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder} must be a folder of images laid out as {_LAYOUT}")
    contiguous_ids = {name: number for number, name in enumerate(class_folders)}
    dicts: List[Dict[str, Any]] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir():
            if _is_image(entry.name):
                raise ValueError(f"{entry.path} must be in a folder of its class, as in {_LAYOUT}")
            continue
        if entry.name not in contiguous_ids:
            known = class_index or os.path.join(root, SPLITS[0])
            raise ValueError(f"folder {entry.path} must be a class of {known}, got none of them")
        dicts += [
            {
                "file_name": path,
                "image_id": os.path.relpath(path, root),
                "class_id": contiguous_ids[entry.name],
            }
            for path in _images(entry.path)
        ]
    if not dicts:
        raise ValueError(f"{folder} must have images laid out as {_LAYOUT}, got none")
    return sorted(dicts, key=lambda record: (record["class_id"], record["file_name"]))


def read_class_index(path: str) -> Tuple[List[str], List[str]]:
    """
    Folders and names of classes, in the order of their ids.

    Args:
        path: a JSON object ``{"0": ["n01440764", "tench"], ...}``, or a text with a class a line:
            the folder and, behind white space, the name; without one it is the folder.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ids of the JSON are not 0, 1, ..., an entry is none, or a folder comes twice.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"class index {path}: no such file")
    rows = _json_rows(path) if path.endswith(".json") else _text_rows(path)
    folders = [folder for folder, _ in rows]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice or not rows:
        raise ValueError(f"class index {path} must have distinct folders, got twice: {twice}")
    return folders, [name for _, name in rows]


def _json_rows(path: str) -> List[Tuple[str, str]]:
    content = read_json_object(path)
    rule = 'an object {"0": [folder, name], "1": ...}'
    if set(content) != {str(k) for k in range(len(content))}:
        raise ValueError(f"class index {path} must be {rule}, its keys 0, 1, ... without a gap")
    rows = [content[str(k)] for k in range(len(content))]
    for key, row in enumerate(rows):
        are_texts = isinstance(row, list) and all(isinstance(text, str) for text in row)
        if not are_texts or len(row) != 2:
            raise ValueError(f"class index {path} must be {rule}, got {row!r} for {key}")
    return [(row[0], row[1]) for row in rows]


def _text_rows(path: str) -> List[Tuple[str, str]]:
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    return [(pair[0], pair[-1]) for pair in pairs]


def _classes(root: str, class_index: str) -> Tuple[List[str], List[str]]:
    if class_index:
        return read_class_index(class_index)
    folder = os.path.join(root, SPLITS[0])
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder} must be a folder of images laid out as {_LAYOUT}")
    folders = _folders(root)
    if not folders:
        raise ValueError(f"{folder} must have a folder for each class ({_LAYOUT}), got none")
    return folders, list(folders)


def _folders(root: str) -> List[str]:
    """Those of the classes, sorted; none where there is no folder yet."""
    folder = os.path.join(root, SPLITS[0])
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _images(folder: str) -> List[str]:
    paths = []
    for parent, _, files in os.walk(folder):
        paths += [os.path.join(parent, name) for name in files if _is_image(name)]
    return paths


def _is_image(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")
