"""What training needs to know of a registered dataset."""

from typing import Sequence

from detectron2.data import MetadataCatalog

from ..structures import DatasetClasses


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
    results = [DatasetClasses.from_metadata(MetadataCatalog.get(name)) for name in names]
    for name, result in zip(names[1:], results[1:]):
        if result != results[0]:
            raise ValueError(
                f"DATASETS.TRAIN must have the same classes throughout, but {name} has {result} "
                f"and {names[0]} has {results[0]}"
            )
    return results[0]
