"""A registered panoptic dataset of two 4 x 6 images whose scores can be computed by hand."""

import json

import deeplab2_d2  # noqa: F401  # isort: skip  # makes Detectron2 importable
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

NAME = "deeplab2_d2_tiny_panoptic"
# Dataset ids 7 (stuff), 11 and 12 (things) have the contiguous ids 1, 0 and 2.
CLASSES = ["cat", "grass", "dog"]
THING_IDS = {11: 0, 12: 2}
STUFF_IDS = {7: 1}

# Segment ids by pixel; 0 is unlabeled. The second image has a crowd (id 6).
FIRST = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 2, 2, 0], [1, 1, 1, 3, 3, 3], [1, 1, 1, 3, 3, 3]])
SECOND = np.array([[4, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4], [5, 5, 5, 6, 6, 6], [5, 5, 5, 6, 6, 6]])
SEGMENTS = {
    "one": [(1, 7, 0), (2, 11, 0), (3, 12, 0)],
    "two": [(4, 7, 0), (5, 11, 0), (6, 12, 1)],
}


def _write(folder):
    records, annotations = [], []
    contiguous = {**THING_IDS, **STUFF_IDS}
    for number, (name, ids) in enumerate({"one": FIRST, "two": SECOND}.items(), 1):
        colors = np.stack([ids, np.zeros_like(ids), np.zeros_like(ids)], -1).astype(np.uint8)
        Image.fromarray(colors).save(folder / f"{name}.png")
        segments = [
            {
                "id": segment,
                "category_id": category,
                "iscrowd": crowd,
                "area": int((ids == segment).sum()),
            }
            for segment, category, crowd in SEGMENTS[name]
        ]
        annotations.append(
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        )
        records.append(
            {
                "file_name": f"{name}.jpg",
                "image_id": number,
                "pan_seg_file_name": str(folder / f"{name}.png"),
                "segments_info": [
                    {**segment, "category_id": contiguous[segment["category_id"]]}
                    for segment in segments
                ],
            }
        )
    categories = [
        {"id": key, "name": CLASSES[index], "isthing": int(key in THING_IDS)}
        for key, index in contiguous.items()
    ]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return records


def register(folder):
    """Write and register the dataset, with its metadata as COCO's loader would set it."""
    records = _write(folder)
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        thing_classes=CLASSES,
        stuff_classes=CLASSES,
        thing_dataset_id_to_contiguous_id=THING_IDS,
        stuff_dataset_id_to_contiguous_id=STUFF_IDS,
        panoptic_json=str(folder / "panoptic.json"),
        panoptic_root=str(folder),
        ignore_label=255,
        label_divisor=1000,
    )


@pytest.fixture
def tiny_dataset(tmp_path):
    """Name of the registered dataset."""
    register(tmp_path)
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
    MetadataCatalog.pop(f"{NAME}_as_instances", None)


@pytest.fixture
def tiny_records(tiny_dataset):
    return DatasetCatalog.get(tiny_dataset)


@pytest.fixture
def run():
    """Process a dataset image by image and evaluate."""

    def _run(evaluator, records, outputs):
        evaluator.reset()
        for record, output in zip(records, outputs):
            evaluator.process([record], [output])
        return evaluator.evaluate()

    return _run
