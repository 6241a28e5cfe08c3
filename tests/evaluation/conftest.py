"""A registered panoptic dataset of two 4 x 6 images whose scores can be computed by hand."""

import json

import deeplab2_d2  # noqa: F401  # isort: skip  # makes Detectron2 importable
import numpy as np
import pytest
import torch
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


RANDOM_CATEGORIES = [{"id": 10 * c + 10, "name": str(c), "isthing": int(c < 3)} for c in range(5)]


def _random_segments(rng, size, num_segments):
    """A map of ids 1 .. and their categories; some pixels are 0."""
    coarse = rng.integers(0, num_segments + 1, (size[0] // 6 + 1, size[1] // 6 + 1))
    ids = np.kron(coarse, np.ones((6, 6), int))[: size[0], : size[1]].astype(np.int32)
    ids[rng.random(size) < 0.02] = 0
    present = [int(i) for i in np.unique(ids) if i]
    return ids, {i: int(rng.integers(0, 5)) for i in present}


@pytest.fixture
def random_dataset(tmp_path):
    """A registered dataset of 7 images, and for each a prediction that is partly right."""
    rng = np.random.default_rng(0)
    root = tmp_path / "panoptic"
    root.mkdir()
    annotations, samples = [], []
    for image_id in range(7):
        size = (40 + image_id, 50)
        ids, classes = _random_segments(rng, size, 9)
        # Large ids, as COCO's PNGs have.
        truth_ids = ids * 70001
        colors = np.stack([truth_ids % 256, truth_ids // 256 % 256, truth_ids // 65536], axis=2)
        Image.fromarray(colors.astype(np.uint8)).save(root / f"{image_id}.png")
        segments = [
            {
                "id": i * 70001, "category_id": RANDOM_CATEGORIES[c]["id"],
                "iscrowd": int(c == 2 and i % 2), "area": int((ids == i).sum()),
            }
            for i, c in classes.items()
        ]  # fmt: skip
        name = f"{image_id}.png"
        annotations.append({"image_id": image_id, "file_name": name, "segments_info": segments})
        predicted = np.where(rng.random(size) < 0.15, rng.integers(0, 12, size), ids)
        kept = [int(i) for i in np.unique(predicted) if i]
        infos = [
            {
                "id": i, "category_id": classes.get(i, 4), "isthing": bool(classes.get(i, 4) < 3),
            }
            for i in kept
        ]  # fmt: skip
        sample = {"image_id": image_id, "file_name": f"{image_id}.jpg"}
        samples.append((sample, (torch.from_numpy(predicted.astype(np.int32)), infos)))
    path = tmp_path / "panoptic.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": a["image_id"]} for a in annotations],
                "annotations": annotations, "categories": RANDOM_CATEGORIES,
            }
        )
    )  # fmt: skip
    name = f"on_the_fly_{tmp_path.name}"
    ids = {c["id"]: i for i, c in enumerate(RANDOM_CATEGORIES)}
    MetadataCatalog.get(name).set(
        panoptic_json=str(path), panoptic_root=str(root), label_divisor=1000,
        thing_dataset_id_to_contiguous_id={k: v for k, v in ids.items() if v < 3},
        stuff_dataset_id_to_contiguous_id={k: v for k, v in ids.items() if v >= 3},
        thing_classes=["0", "1", "2"], stuff_classes=["0", "1", "2", "3", "4"],
    )  # fmt: skip
    yield name, samples
    MetadataCatalog.remove(name)
