"""What training needs to know of a registered dataset."""

from typing import Sequence

from detectron2.data import MetadataCatalog

from ..structures import DatasetClasses

# `evaluator_type` of sets of semantic maps alone: all of their classes are stuff.
SEMANTIC_TYPES = ("sem_seg", "cityscapes_sem_seg")


def _classes_of(name: str) -> DatasetClasses:
    metadata = MetadataCatalog.get(name)
    needs_things = metadata.get("evaluator_type") not in SEMANTIC_TYPES
    return DatasetClasses.from_metadata(metadata, needs_things=needs_things)


def training_metadata(names: Sequence[str]) -> DatasetClasses:
    """
    The classes of the training datasets.

    Args:
        names: of registered datasets, at least one; all with the same classes.

    Returns:
        those of the first.

    Raises:
        ValueError: if a dataset has no panoptic metadata, or differs from the first.
    """
    if not names:
        raise ValueError("DATASETS.TRAIN must name at least one dataset, got none")
    results = [_classes_of(name) for name in names]
    for name, result in zip(names[1:], results[1:]):
        if result != results[0]:
            raise ValueError(
                f"DATASETS.TRAIN must have the same classes throughout, but {name} has {result} "
                f"and {names[0]} has {results[0]}"
            )
    return results[0]
