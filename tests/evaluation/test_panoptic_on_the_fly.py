"""Panoptic quality on the fly equals panopticapi's to the last digit."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from deeplab2_d2.evaluation import OnTheFlyPanopticEvaluator, PanopticQualityEvaluator

pytest.importorskip("panopticapi")
CATEGORIES = [{"id": 10 * c + 10, "name": str(c), "isthing": int(c < 3)} for c in range(5)]


def random_segments(rng, size, num_segments):
    """A map of ids 1 .. and their categories; some pixels are 0."""
    coarse = rng.integers(0, num_segments + 1, (size[0] // 6 + 1, size[1] // 6 + 1))
    ids = np.kron(coarse, np.ones((6, 6), int))[: size[0], : size[1]].astype(np.int32)
    ids[rng.random(size) < 0.02] = 0
    present = [int(i) for i in np.unique(ids) if i]
    return ids, {i: int(rng.integers(0, 5)) for i in present}


@pytest.fixture
def dataset(tmp_path):
    """A registered dataset of 7 images, and for each a prediction that is partly right."""
    rng = np.random.default_rng(0)
    root = tmp_path / "panoptic"
    root.mkdir()
    annotations, samples = [], []
    for image_id in range(7):
        size = (40 + image_id, 50)
        ids, classes = random_segments(rng, size, 9)
        # Large ids, as COCO's PNGs have.
        truth_ids = ids * 70001
        colors = np.stack([truth_ids % 256, truth_ids // 256 % 256, truth_ids // 65536], axis=2)
        Image.fromarray(colors.astype(np.uint8)).save(root / f"{image_id}.png")
        segments = [
            {
                "id": i * 70001, "category_id": CATEGORIES[c]["id"],
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
                "annotations": annotations, "categories": CATEGORIES,
            }
        )
    )  # fmt: skip
    name = f"on_the_fly_{tmp_path.name}"
    ids = {c["id"]: i for i, c in enumerate(CATEGORIES)}
    MetadataCatalog.get(name).set(
        panoptic_json=str(path), panoptic_root=str(root), label_divisor=1000,
        thing_dataset_id_to_contiguous_id={k: v for k, v in ids.items() if v < 3},
        stuff_dataset_id_to_contiguous_id={k: v for k, v in ids.items() if v >= 3},
        thing_classes=["0", "1", "2"], stuff_classes=["0", "1", "2", "3", "4"],
    )  # fmt: skip
    yield name, samples
    MetadataCatalog.remove(name)


def evaluate(evaluator, samples):
    evaluator.reset()
    for sample, panoptic_seg in samples:
        evaluator.process([sample], [{"panoptic_seg": panoptic_seg}])
    return evaluator.evaluate()["panoptic_seg"]


@pytest.mark.parametrize("num_processors", [1, 2, 3, 16])
def test_scores_equal_panopticapi_to_the_last_digit(dataset, num_processors, monkeypatch):
    name, samples = dataset
    # Both divide the images among the machine's processors.
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: num_processors)
    expected = evaluate(PanopticQualityEvaluator(name, per_class=True), samples)
    # Another order of the images, as several processes give.
    ours = evaluate(OnTheFlyPanopticEvaluator(name, per_class=True), samples[::-1])
    assert ours == expected
    assert 0 < ours["PQ"] < 100 and ours["SQ_th"] > 50


def test_maps_without_a_list_are_panoptic_labels(dataset):
    name, samples = dataset
    labels = []
    for sample, (panoptic_map, infos) in samples:
        table = {info["id"]: info["category_id"] * 1000 + info["id"] for info in infos}
        flat = [table.get(i, -1) for i in panoptic_map.flatten().tolist()]
        labels.append((sample, (torch.tensor(flat).view(panoptic_map.shape), None)))
    ours = evaluate(OnTheFlyPanopticEvaluator(name), labels)
    assert ours == evaluate(OnTheFlyPanopticEvaluator(name), samples)


def test_wrong_input_is_named(dataset):
    name, samples = dataset
    evaluator = OnTheFlyPanopticEvaluator(name)
    evaluator.reset()
    sample, (panoptic_map, infos) = samples[0]
    with pytest.raises(ValueError, match="image_id must be in .*, got 'nobody'"):
        evaluator.process([{"image_id": "nobody"}], [{"panoptic_seg": (panoptic_map, infos)}])
    with pytest.raises(ValueError, match="must have the same ids"):
        evaluator.process([sample], [{"panoptic_seg": (panoptic_map, infos[1:])}])
    with pytest.raises(
        ValueError, match="every image of .* must have a prediction, got none for 0"
    ):
        evaluator.evaluate()
