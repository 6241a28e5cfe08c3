"""A dataset of the first images of another, which evaluators take for a whole one."""

import contextlib
import glob
import os
from typing import Any, Dict, Iterator, List

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.loader import load_dataset_dicts
from ..structures import read_json_object, write_json

# Metadata that names COCO's kinds of JSON.
_ANNOTATIONS = ("panoptic_json", "json_file")
_FRAMES = 2


@contextlib.contextmanager
def first_images(name: str, folder: str) -> Iterator[str]:
    """
    Register, within the block, the first image of a dataset; of videos, two frames of the first.

    Args:
        name: of a registered dataset.
        folder: for annotations of these images alone.

    Returns:
        its name.
    """
    dicts = _first(load_dataset_dicts([name]))
    metadata = {k: v for k, v in MetadataCatalog.get(name).as_dict().items() if k != "name"}
    ids = {d["image_id"] for d in dicts if "image_id" in d}
    for key in _ANNOTATIONS:
        if ids and metadata.get(key) and os.path.isfile(metadata[key]):
            path = os.path.join(folder, f"{key}.json")
            write_json(path, _cut(read_json_object(metadata[key]), ids))
            metadata[key] = path
    if metadata.get("gt_dir"):
        metadata["gt_dir"] = _link_cityscapes(metadata["gt_dir"], dicts, folder)
    short = f"{name}_first_images"
    _forget(short)
    DatasetCatalog.register(short, lambda: [dict(d) for d in dicts])
    MetadataCatalog.get(short).set(**metadata)
    try:
        yield short
    finally:
        _forget(short)


def _first(dicts: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    sequence = dicts[0].get("sequence")
    if sequence is None:
        return dicts[:1]
    return [d for d in dicts if d.get("sequence") == sequence][:_FRAMES]


def _cut(content: Dict[str, Any], ids: Any) -> Dict[str, Any]:
    """The entries of some images; others, as categories, as they are."""
    kept = dict(content)
    for key, of_image in (("images", "id"), ("annotations", "image_id")):
        entries = content.get(key)
        if isinstance(entries, list):
            kept[key] = [e for e in entries if isinstance(e, dict) and e.get(of_image) in ids]
    return kept


def _link_cityscapes(gt_dir: str, dicts: List[Dict[str, Any]], folder: str) -> str:
    """Cityscapes' scripts score every file of a folder: links to those of the images."""
    linked = os.path.join(folder, "gt_dir")
    for record in dicts:
        stem = os.path.basename(record["file_name"]).replace("_leftImg8bit.png", "")
        for path in glob.glob(os.path.join(glob.escape(gt_dir), "*", f"{glob.escape(stem)}_*")):
            city = os.path.join(linked, os.path.basename(os.path.dirname(path)))
            os.makedirs(city, exist_ok=True)
            os.symlink(os.path.abspath(path), os.path.join(city, os.path.basename(path)))
    return linked


def _forget(name: str) -> None:
    DatasetCatalog.pop(name, None)
    for registered in (name, f"{name}_as_instances"):
        MetadataCatalog.pop(registered, None)
