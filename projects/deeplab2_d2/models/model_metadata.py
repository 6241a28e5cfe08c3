"""What a model must know of its dataset: thing classes and the label divisor."""

from typing import List, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .class_map import class_map_from_config


class ModelMetadata(NamedTuple):
    """
    Attributes:
        thing_ids: contiguous ids of the classes that have instances, ascending.
        label_divisor: panoptic label = semantic * label_divisor + instance.
    """

    thing_ids: List[int]
    label_divisor: int


def metadata_from_config(cfg: CfgNode, *, needs_things: bool = True) -> ModelMetadata:
    """
    Look up the metadata of the dataset that the model is trained for.

    Args:
        cfg: names it as the first of DATASETS.TRAIN, or of DATASETS.TEST if there is none.
        needs_things: False for a semantic model.

    Raises:
        ValueError: if no dataset is named, or it has no thing classes or label divisor, which
            only a semantic model can do without.
    """
    names = list(cfg.DATASETS.TRAIN) + list(cfg.DATASETS.TEST)
    if not names:
        raise ValueError("config key DATASETS.TRAIN must name a dataset, got ()")
    metadata = MetadataCatalog.get(names[0])
    if not needs_things:
        return ModelMetadata([], int(metadata.get("label_divisor", 1000)))
    for key in ("thing_dataset_id_to_contiguous_id", "label_divisor"):
        if not hasattr(metadata, key):
            raise ValueError(
                f"dataset {names[0]!r} (config key DATASETS.TRAIN) must have {key!r} in its "
                "metadata: is it registered, and for panoptic segmentation?"
            )
    thing_ids = sorted(set(metadata.thing_dataset_id_to_contiguous_id.values()))
    return ModelMetadata(thing_ids, int(metadata.label_divisor))


def check_classes(cfg: CfgNode) -> None:
    """
    Hold the model's classes and its ignore label against those of its dataset.

    Args:
        cfg: the dataset is the first of DATASETS.TRAIN, or of DATASETS.TEST if there is none.

    Raises:
        ValueError: naming the key, the dataset and both values.
    """
    name = (list(cfg.DATASETS.TRAIN) + list(cfg.DATASETS.TEST))[0]
    metadata, node = MetadataCatalog.get(name), cfg.MODEL.SEM_SEG_HEAD
    num_classes = len(
        {
            *metadata.get("thing_dataset_id_to_contiguous_id", {}).values(),
            *metadata.get("stuff_dataset_id_to_contiguous_id", {}).values(),
        }
    ) or len(metadata.stuff_classes)
    if class_map_from_config(cfg).num_classes != num_classes:
        raise ValueError(
            "config key MODEL.SEM_SEG_HEAD.NUM_CLASSES (with MODEL.DEEPLAB2.CLASS_MAP "
            f"{cfg.MODEL.DEEPLAB2.CLASS_MAP!r}) must fit the {num_classes} classes of dataset "
            f"{name!r}, got {node.NUM_CLASSES}"
        )
    ignore_label = metadata.get("ignore_label", node.IGNORE_VALUE)
    if ignore_label != node.IGNORE_VALUE:
        raise ValueError(
            f"config key MODEL.SEM_SEG_HEAD.IGNORE_VALUE must be {ignore_label}, the ignore_label "
            f"of dataset {name!r}, got {node.IGNORE_VALUE}"
        )
