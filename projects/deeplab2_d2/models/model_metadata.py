"""What a model must know of its dataset: its classes."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..checkpoint import adopt_classes
from ..data.catalog import describe_missing
from ..data.shared_names import is_registered
from ..structures import DatasetClasses
from .class_map import class_map_from_config


def metadata_from_config(cfg: CfgNode, *, needs_things: bool = True) -> DatasetClasses:
    """
    Look up the classes of the dataset that the model is trained for.

    Where the dataset is not registered, its classes come from the checkpoint MODEL.WEIGHTS, if
    that has them; see :func:`adopt_classes`.

    Args:
        cfg: names it as the first of DATASETS.TRAIN, or of DATASETS.TEST if there is none.
        needs_things: False for a semantic model.

    Raises:
        ValueError: if no dataset is named, or it has no panoptic metadata, which only a semantic
            model can do without.
    """
    name = _dataset_of(cfg)
    adopt_classes(cfg)
    is_known = is_registered(name) or MetadataCatalog.get(name).get("stuff_classes") is not None
    if needs_things and not is_known:
        raise ValueError(
            f"config key DATASETS.TRAIN: {describe_missing(name)}; and the weights, MODEL.WEIGHTS "
            f"{cfg.MODEL.WEIGHTS!r}, do not hold its classes"
        )
    try:
        return DatasetClasses.from_metadata(MetadataCatalog.get(name), needs_things=needs_things)
    except ValueError as error:
        raise ValueError(f"config key DATASETS.TRAIN: {error}") from error


def check_classes(cfg: CfgNode) -> None:
    """
    Hold the model's classes and its ignore label against those of its dataset.

    Args:
        cfg: the dataset is the first of DATASETS.TRAIN, or of DATASETS.TEST if there is none.

    Raises:
        ValueError: naming the key, the dataset and both values.
    """
    name, node = _dataset_of(cfg), cfg.MODEL.SEM_SEG_HEAD
    classes = metadata_from_config(cfg, needs_things=False)
    if class_map_from_config(cfg).num_classes != classes.num_classes:
        raise ValueError(
            "config key MODEL.SEM_SEG_HEAD.NUM_CLASSES (with MODEL.DEEPLAB2.CLASS_MAP "
            f"{cfg.MODEL.DEEPLAB2.CLASS_MAP!r}) must fit the {classes.num_classes} classes of "
            f"dataset {name!r}, got {node.NUM_CLASSES}"
        )
    if classes.ignore_label != node.IGNORE_VALUE:
        raise ValueError(
            "config key MODEL.SEM_SEG_HEAD.IGNORE_VALUE must be "
            f"{classes.ignore_label}, the ignore_label of dataset {name!r}, got {node.IGNORE_VALUE}"
        )


def _dataset_of(cfg: CfgNode) -> str:
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ValueError("config key DATASETS.TRAIN must name a dataset, got ()")
    return names[0]
