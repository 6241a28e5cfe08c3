"""
Datasets whose names other projects register as well: ADE20K's and Mapillary Vistas'.

Detectron2 registers a name once, and Mask2Former registers these whenever it is imported. So they
are only offered here: who asks for one that nobody has registered gets ours, and who registers one
before that is not hindered.
"""

import os
from typing import Any, Dict

from detectron2.data import DatasetCatalog

from .ade20k import FOLDER as ADE20K_FOLDER
from .ade20k import ade20k_categories
from .mapillary_vistas import mapillary_vistas_categories
from .registration import panoptic_metadata, register_panoptic_dataset

# The folder of all datasets, once it is known.
_ROOT: Dict[str, str] = {}


def register_ade20k(root: str) -> None:
    """Register ``ade20k_panoptic_{train,val}``."""
    metadata = panoptic_metadata(ade20k_categories())
    for split, folder in (("train", "training"), ("val", "validation")):
        panoptic = os.path.join(root, ADE20K_FOLDER, f"ade20k_panoptic_{split}")
        register_panoptic_dataset(
            f"ade20k_panoptic_{split}",
            metadata,
            image_root=os.path.join(root, ADE20K_FOLDER, "images", folder),
            panoptic_root=panoptic,
            panoptic_json=f"{panoptic}.json",
        )


def register_mapillary_vistas(root: str) -> None:
    """Register ``mapillary_vistas_panoptic_{train,val}``."""
    metadata = panoptic_metadata(mapillary_vistas_categories())
    for split, folder in (("train", "training"), ("val", "validation")):
        folder = os.path.join(root, "mapillary_vistas", folder)
        register_panoptic_dataset(
            f"mapillary_vistas_panoptic_{split}",
            metadata,
            image_root=os.path.join(folder, "images"),
            panoptic_root=os.path.join(folder, "panoptic"),
            panoptic_json=os.path.join(folder, "panoptic", "panoptic_2018.json"),
        )


_SHARED = {
    "ade20k_panoptic_train": register_ade20k,
    "ade20k_panoptic_val": register_ade20k,
    "mapillary_vistas_panoptic_train": register_mapillary_vistas,
    "mapillary_vistas_panoptic_val": register_mapillary_vistas,
}


def offer_shared_names(root: str) -> None:
    """
    Let ``DatasetCatalog`` find the shared names without having them.

    Args:
        root: folder of all datasets.
    """
    _ROOT["path"] = root
    # What Python calls for a key that a UserDict does not have. A registration, which asks first
    # whether the name is there, does not come this way.
    setattr(type(DatasetCatalog), "__missing__", _register_and_get)


def _register_and_get(catalog: Any, name: str) -> Any:
    if name not in _SHARED:
        raise KeyError(name)
    _SHARED[name](_ROOT["path"])
    return catalog.data[name]


def is_registered(name: str) -> bool:
    """Whether there is a dataset of a name; one that is only offered is registered by this."""
    if name in _SHARED and name not in DatasetCatalog.list() and _ROOT:
        _SHARED[name](_ROOT["path"])
    return name in DatasetCatalog.list()
