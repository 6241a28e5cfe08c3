"""What a model must know of its dataset: thing classes and the label divisor."""

from typing import List, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


class ModelMetadata(NamedTuple):
    """
    Attributes:
        thing_ids: contiguous ids of the classes that have instances, ascending.
        label_divisor: panoptic label = semantic * label_divisor + instance.
    """

    thing_ids: List[int]
    label_divisor: int


def metadata_from_config(cfg: CfgNode) -> ModelMetadata:
    """
    Look up the metadata of the dataset that the model is trained for.

    Args:
        cfg: names it as the first of DATASETS.TRAIN, or of DATASETS.TEST if there is none.

    Raises:
        ValueError: if no dataset is named, or it has no thing classes or label divisor, which
            only a semantic model (MODEL.DEEPLAB2.INSTANCE_ENABLED False) can do without.
    """
    names = list(cfg.DATASETS.TRAIN) + list(cfg.DATASETS.TEST)
    if not names:
        raise ValueError("config key DATASETS.TRAIN must name a dataset, got ()")
    metadata = MetadataCatalog.get(names[0])
    if not cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED:
        return ModelMetadata([], int(metadata.get("label_divisor", 1000)))
    for key in ("thing_dataset_id_to_contiguous_id", "label_divisor"):
        if not hasattr(metadata, key):
            raise ValueError(
                f"dataset {names[0]!r} (config key DATASETS.TRAIN) must have {key!r} in its "
                "metadata: is it registered, and for panoptic segmentation?"
            )
    thing_ids = sorted(set(metadata.thing_dataset_id_to_contiguous_id.values()))
    return ModelMetadata(thing_ids, int(metadata.label_divisor))
