"""
The classes that a model was trained on, inside its checkpoint.

Config and weights are then all that a demo or a predictor needs: a dataset that is not registered
where they are used gets its classes from there.
"""

import os
from typing import Any, Dict, Iterable, Mapping, Optional

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import DatasetClasses
from .pickled_file import read_entry
from .sorted_table import CheckpointFormatError

# Beside "model"; Detectron2's checkpointer loads what it knows and leaves the rest alone.
CLASSES_KEY = "dataset_classes"
_NAMES = ("thing_classes", "stuff_classes")
_COLORS = ("thing_colors", "stuff_colors")
_IDS = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
_NUMBERS = ("ignore_label", "label_divisor")


def classes_of_dataset(name: str) -> Optional[Dict[str, Any]]:
    """What a checkpoint keeps of a dataset's metadata; None of a dataset without classes."""
    metadata = MetadataCatalog.get(name)
    if not metadata.get("stuff_classes"):
        return None
    classes: Dict[str, Any] = {"name": name}
    for key in (*_NAMES, *_COLORS):
        if metadata.get(key) is not None:
            rows = metadata.get(key)
            classes[key] = [str(x) if key in _NAMES else [int(c) for c in x] for x in rows]
    for key in _IDS:
        if metadata.get(key) is not None:
            classes[key] = {int(k): int(v) for k, v in metadata.get(key).items()}
    classes.update({k: int(metadata.get(k)) for k in _NUMBERS if metadata.get(k) is not None})
    return classes


def read_classes(path: str) -> Optional[Dict[str, Any]]:
    """
    The classes that a checkpoint holds.

    Args:
        path: of a .pth; of another file, and where there is none, there are no classes.

    Returns:
        metadata as :func:`classes_of_dataset` has them; None where the checkpoint holds none.

    Raises:
        CheckpointFormatError: if it is damaged, or its classes are none.
    """
    if not path.endswith(".pth") or not os.path.isfile(path):
        return None
    classes = read_entry(path, CLASSES_KEY)
    if classes is None:
        return None
    if not isinstance(classes, Mapping) or not _are_classes(classes):
        reason = f"{CLASSES_KEY} must be the metadata of a dataset, got {str(classes)[:80]}"
        raise CheckpointFormatError(path, 0, reason)
    return dict(classes)


def adopt_classes(cfg: CfgNode, path: str = "") -> None:
    """
    Give the datasets of a config that this machine does not know the classes of a checkpoint.

    Their metadata are set; they are not registered. Those that have classes are left as they are.

    Args:
        cfg: DATASETS.TRAIN and DATASETS.TEST.
        path: of the checkpoint; "" = MODEL.WEIGHTS.
    """
    unknown = [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if not _is_known(name)]
    classes = read_classes(path or cfg.MODEL.WEIGHTS) if unknown else None
    if classes is None:
        return
    values = {key: value for key, value in classes.items() if key != "name"}
    for name in unknown:
        MetadataCatalog.get(name).set(evaluator_type="coco_panoptic_seg", **values)


def _is_known(name: str) -> bool:
    if name in DatasetCatalog.list():
        return True
    # The catalog makes metadata for whom it is asked for: not for those that nobody has.
    return name in MetadataCatalog.list() and bool(MetadataCatalog.get(name).get("stuff_classes"))


def _are_classes(classes: Mapping[str, Any]) -> bool:
    try:
        found = DatasetClasses.from_metadata(classes, needs_things=False)
    except (AttributeError, TypeError, ValueError):
        return False
    names: Iterable[Any] = found.names
    return found.num_classes == len(found.names) > 0 and all(isinstance(n, str) for n in names)
