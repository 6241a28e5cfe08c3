import json

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from deeplab2_d2.engine.prediction_files import (
    PredictionWriter,
    boxes_of_segments,
    hide_uncertain,
    panoptic_of_output,
)
from deeplab2_d2.structures import read_panoptic_png

METADATA = Metadata(
    name="street",
    thing_classes=["person", "road"],
    stuff_classes=["person", "road"],
    thing_dataset_id_to_contiguous_id={24: 0},
    stuff_dataset_id_to_contiguous_id={24: 0, 7: 1},
    label_divisor=1000,
)
IMAGE = np.zeros((1, 3, 3), np.uint8)


def _segments(ids):
    segments = [{"id": 70001, "category_id": 0, "isthing": True}]
    segments += [{"id": 2, "category_id": 1, "isthing": False}]
    return torch.tensor([ids], dtype=torch.int32), segments


def test_the_png_has_the_ids_and_the_json_the_categories_things_first(tmp_path):
    writer = PredictionWriter(str(tmp_path), METADATA)
    writer.add("a/x.jpg", IMAGE, _segments([0, 2, 70001]))
    content = json.loads(open(writer.close()).read())
    assert read_panoptic_png(str(tmp_path / "x_panoptic.png")).tolist() == [[0, 2, 70001]]
    assert content["categories"] == [
        {"id": 24, "name": "person", "isthing": 1},
        {"id": 7, "name": "road", "isthing": 0},
    ]
    person, _ = content["annotations"][0]["segments_info"]
    assert (person["category_id"], person["category"]) == (24, "person")


def test_inputs_of_one_stem_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="got a/x.jpg and b/X.png"):
        PredictionWriter(str(tmp_path / "out"), METADATA, file_names=["a/x.jpg", "b/X.png"])
    assert not (tmp_path / "out").exists()
    writer = PredictionWriter(str(tmp_path), METADATA)
    writer.add("a/x.jpg", IMAGE, _segments([0, 2, 70001]))
    with pytest.raises(ValueError, match="got a/x.jpg and b/X.png"):
        writer.add("b/X.png", IMAGE, _segments([0, 2, 70001]))


def test_negative_ids_are_refused_and_nothing_is_written(tmp_path):
    writer = PredictionWriter(str(tmp_path), METADATA)
    with pytest.raises(ValueError, match=r"x_panoptic.png: segment ids .* got -1"):
        writer.add("x.jpg", IMAGE, _segments([0, 2, -1]))
    assert list(tmp_path.iterdir()) == []


def test_of_a_semantic_output_each_class_is_a_segment():
    scores = torch.tensor([[[2.0, 0.0, 0.0]], [[1.0, 5.0, 6.0]], [[0.0, 1.0, 2.0]]])
    ids, segments = panoptic_of_output({"sem_seg": scores})
    assert ids.tolist() == [[1, 2, 2]] and ids.dtype == torch.int32
    # By hand: e^2 / (e^2 + e + 1); the mean of e^5 / (1 + e^5 + e) and e^6 / (1 + e^6 + e^2).
    first, second = 0.665241, (0.975559 + 0.979635) / 2
    assert segments == [
        {"id": 1, "category_id": 0, "isthing": False, "score": pytest.approx(first, abs=1e-5)},
        {"id": 2, "category_id": 1, "isthing": False, "score": pytest.approx(second, abs=1e-5)},
    ]
    output = {"sem_seg": scores, "panoptic_seg": ("map", [])}
    assert panoptic_of_output(output) == ("map", [])


def test_uncertain_segments_become_void_and_those_without_a_score_stay():
    ids = torch.tensor([[1, 2, 3, 0, 2]], dtype=torch.int32)
    segments = [{"id": 1, "score": 0.4}, {"id": 2, "score": 0.5}, {"id": 3}]
    kept, left = hide_uncertain((ids, segments), 0.5)
    assert kept.tolist() == [[0, 2, 3, 0, 2]] and kept.dtype == torch.int32
    assert left == segments[1:] and ids.tolist() == [[1, 2, 3, 0, 2]]
    assert hide_uncertain((ids, segments), 0.4) == (ids, segments)


def test_areas_and_boxes_are_those_of_the_pixels():
    ids = np.array([[7, 7, 0, 0], [0, 7, 3000, 0], [0, 0, 3000, 7]])
    assert boxes_of_segments(ids, [3000, 7, 5]) == [
        (2, (2, 1, 3, 3)),
        (4, (0, 0, 4, 3)),
        (0, (0, 0, 0, 0)),
    ]
    assert boxes_of_segments(np.zeros((2, 2), np.int32), []) == []


def test_inputs_are_not_written_over(tmp_path):
    names = [str(tmp_path / name) for name in ("a.jpg", "a_overlay.png")]
    for name in names:
        (tmp_path / name).write_bytes(b"a photo")
    with pytest.raises(ValueError, match="a_overlay.png is one; choose another folder"):
        PredictionWriter(str(tmp_path), METADATA, file_names=names)
    PredictionWriter(str(tmp_path), METADATA, file_names=names[:1])
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"a photo"}


def test_an_annotation_in_the_folder_is_not_replaced_by_predictions(tmp_path):
    annotation = {"images": [], "annotations": [{"image_id": 1, "file_name": "a.png"}]}
    (tmp_path / "panoptic.json").write_text(json.dumps(annotation))
    with pytest.raises(ValueError, match="panoptic.json must be of predictions of a run before"):
        PredictionWriter(str(tmp_path), METADATA, file_names=["x.jpg"])
    (tmp_path / "panoptic.json").unlink()
    for _ in range(2):
        writer = PredictionWriter(str(tmp_path), METADATA, file_names=["x.jpg"])
        writer.add("x.jpg", IMAGE, _segments([0, 2, 70001]))
        writer.close()
