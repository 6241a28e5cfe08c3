"""What training needs to know of a registered dataset."""

from typing import Any, Dict, Sequence

from detectron2.data import MetadataCatalog


def training_metadata(names: Sequence[str]) -> Dict[str, Any]:
    """
    What the targets need of the metadata of the training datasets.

    Args:
        names: of registered datasets, at least one; all with the same classes.

    Returns:
        ``num_classes``, ``thing_ids`` (sorted contiguous ids), ``ignore_label``,
        ``label_divisor``.

    Raises:
        ValueError: if a dataset has no panoptic metadata, or differs from the first.
    """
    if not names:
        raise ValueError("DATASETS.TRAIN must name at least one dataset, got none")
    results = [_panoptic_metadata(name) for name in names]
    for name, result in zip(names[1:], results[1:]):
        if result != results[0]:
            raise ValueError(
                f"DATASETS.TRAIN must have the same classes throughout, but {name} has {result} "
                f"and {names[0]} has {results[0]}"
            )
    return results[0]


def _panoptic_metadata(name: str) -> Dict[str, Any]:
    metadata = MetadataCatalog.get(name)
    keys = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
    missing = [k for k in (*keys, "stuff_classes", "label_divisor") if not hasattr(metadata, k)]
    if missing:
        raise ValueError(
            f"dataset {name} must be registered with panoptic metadata; it lacks "
            f"{', '.join(missing)}"
        )
    things = metadata.thing_dataset_id_to_contiguous_id.values()
    stuff = metadata.stuff_dataset_id_to_contiguous_id.values()
    return {
        "num_classes": len(set(things) | set(stuff)),
        "thing_ids": sorted(things),
        "ignore_label": metadata.get("ignore_label", 255),
        "label_divisor": metadata.label_divisor,
    }
