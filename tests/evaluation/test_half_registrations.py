"""Datasets and predictions that an evaluation must not score as if all were well."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic
from PIL import Image

from deeplab2_d2.data.loader import load_dataset_dicts
from deeplab2_d2.data.metadata import training_metadata
from deeplab2_d2.data.registration import load_panoptic_json, panoptic_metadata
from deeplab2_d2.evaluation import (
    GroundTruthPredictor,
    OnTheFlyPanopticEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    SemanticEvaluator,
)
from deeplab2_d2.evaluation.label_pairs import count_label_pairs

pytest.importorskip("panopticapi")

EVALUATORS = [
    SemanticEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    OnTheFlyPanopticEvaluator,
]
PANOPTIC = EVALUATORS[2:]


def _truth(records):
    return GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(records)


def _change(change):
    path = MetadataCatalog.get("deeplab2_d2_tiny_panoptic").panoptic_json
    with open(path) as file:
        content = json.load(file)
    change(content)
    with open(path, "w") as file:
        json.dump(content, file)
    return path


@pytest.mark.parametrize("evaluator", PANOPTIC)
@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_areas_are_those_of_the_pngs(tiny_dataset, tiny_records, run, evaluator, factor):
    # By the JSON's areas, halves give 200 and more.
    def scale(content):
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                segment["area"] = int(factor * segment["area"])

    _change(scale)
    scores = run(evaluator(tiny_dataset), tiny_records, _truth(tiny_records))
    assert set(scores["panoptic_seg"].values()) == {100.0}


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_image_without_a_prediction_is_an_error(tiny_dataset, tiny_records, run, evaluator):
    outputs = _truth(tiny_records)
    # panopticapi raises an Exception of its own.
    with pytest.raises(Exception, match="(?i)no prediction|every image of .* must have a pred"):
        run(evaluator(tiny_dataset), tiny_records[:1], outputs)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_image_that_comes_twice_is_an_error(tiny_dataset, tiny_records, run, evaluator):
    records, outputs = [*tiny_records, tiny_records[0]], _truth(tiny_records)
    with pytest.raises(ValueError, match="each image .*once"):
        run(evaluator(tiny_dataset), records, [*outputs, outputs[0]])


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_image_that_the_dataset_has_not_is_an_error(tiny_dataset, tiny_records, run, evaluator):
    other = {**tiny_records[0], "file_name": "other.jpg", "image_id": 99}
    outputs = _truth(tiny_records)
    with pytest.raises(ValueError, match=r"must be (of images of|in) .* got ('other.jpg'|.*99)"):
        run(evaluator(tiny_dataset), [*tiny_records, other], [*outputs, outputs[0]])


@pytest.mark.parametrize("evaluator", PANOPTIC)
@pytest.mark.parametrize("key", ["images", "annotations"])
def test_an_image_that_is_listed_twice_is_an_error(tiny_dataset, tiny_records, run, evaluator, key):
    def repeat(content):
        content["images"] = [{**image, "height": 4, "width": 6} for image in content["images"]]
        content[key].append(content[key][0])

    path = _change(repeat)
    with pytest.raises(ValueError, match=f"each image once in its {key}, got 1 .* image_id 1"):
        run(evaluator(tiny_dataset), tiny_records, _truth(tiny_records))
    with pytest.raises(ValueError, match="id 1 is twice|another of image_id 1"):
        load_panoptic_json(path, "", "", MetadataCatalog.get(tiny_dataset).as_dict())


def test_records_with_one_image_id_are_no_dataset(tiny_dataset, tiny_records):
    name = "deeplab2_d2_repeated"
    DatasetCatalog.register(name, lambda: [*tiny_records, tiny_records[0]])
    try:
        with pytest.raises(ValueError, match=f"{name} must have each image once.*image_id 1"):
            load_dataset_dicts([name])
        MetadataCatalog.get(name).set(stuff_classes=["cat", "grass", "dog"])
        with pytest.raises(ValueError, match=f"{name} must have each image once"):
            SemanticEvaluator(name)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_things_and_stuff_that_share_contiguous_ids_are_no_dataset(tmp_path):
    # As someone registers who counts both from 0.
    name = "deeplab2_d2_overlapping"
    metadata = {
        "thing_classes": ["disc", "square"],
        "stuff_classes": ["sky", "grass"],
        "thing_dataset_id_to_contiguous_id": {1: 0, 2: 1},
        "stuff_dataset_id_to_contiguous_id": {21: 0, 22: 1},
    }
    register_coco_panoptic(name, metadata, str(tmp_path), str(tmp_path), str(tmp_path / "p.json"))
    message = f"{name} must have a contiguous id of its own .* got 0 for the categories 21 and 1"
    try:
        with pytest.raises(ValueError, match=message):
            training_metadata([name])
        for evaluator in PANOPTIC:
            with pytest.raises(ValueError, match=message):
                evaluator(name)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize("value", ["0", "1", "yes", 2, None])
def test_isthing_is_0_or_1(value):
    categories = [{"id": 1, "name": "sky", "isthing": value}]
    with pytest.raises(ValueError, match=rf"category 'sky': isthing must be 0 or 1, got {value!r}"):
        panoptic_metadata(categories)


def test_isthing_of_the_annotation_is_0_or_1(tiny_dataset, tiny_records, run):
    _change(lambda content: [c.update(isthing=str(c["isthing"])) for c in content["categories"]])
    for evaluator in PANOPTIC:
        with pytest.raises(ValueError, match="isthing must be 0 or 1, got '1'"):
            run(evaluator(tiny_dataset), tiny_records, _truth(tiny_records))


def test_semantic_predictions_must_fit_the_classes(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    for wrong in (outputs[0]["sem_seg"][:2], outputs[0]["sem_seg"][0]):
        with pytest.raises(ValueError, match="must be scores of 3 classes"):
            run(SemanticEvaluator(tiny_dataset), tiny_records, [{"sem_seg": wrong}])


def test_semantic_ground_truth_must_have_classes_of_the_dataset(tiny_dataset, tiny_records, run):
    path = tiny_records[0]["pan_seg_file_name"].replace(".png", "_classes.png")
    Image.fromarray(np.full((4, 6), 3, np.uint8)).save(path)
    records = [{**tiny_records[0], "sem_seg_file_name": path}]
    name = "deeplab2_d2_semantic"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=["cat", "grass", "dog"], ignore_label=255)
    try:
        with pytest.raises(ValueError, match="classes below 3 and ignore_label 255, got 3"):
            run(SemanticEvaluator(name), records, _truth(tiny_records))
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_labels_must_be_integers_of_64_bits():
    labels, wide = np.zeros((1, 2)), np.array([[0, 2**63]], np.uint64)
    with pytest.raises(TypeError, match="integers, got float64"):
        count_label_pairs(labels, labels)
    with pytest.raises(ValueError, match="below 2\\^63, got 9223372036854775808"):
        count_label_pairs(wide, wide)
    # 2^32 is no 0.
    pairs = count_label_pairs(np.array([[2**32, 0]]), np.array([[0, 2**32]]))
    assert sorted(zip(pairs.truth.tolist(), pairs.prediction.tolist())) == [(0, 2**32), (2**32, 0)]
