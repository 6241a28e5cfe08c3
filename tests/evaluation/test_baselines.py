import pytest
import torch

from deeplab2_d2.evaluation import ConstantPredictor, GroundTruthPredictor


def test_ground_truth_predictor_repeats_the_annotation(tiny_records):
    outputs = GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(tiny_records)
    ids, segments = outputs[1]["panoptic_seg"]
    assert ids[3].tolist() == [5, 5, 5, 6, 6, 6]
    assert segments == [
        {"id": 4, "category_id": 1, "isthing": False},
        {"id": 5, "category_id": 0, "isthing": True},
        {"id": 6, "category_id": 2, "isthing": True},
    ]
    assert outputs[1]["sem_seg"].argmax(0)[3].tolist() == [0, 0, 0, 2, 2, 2]
    # The crowd is no instance.
    assert outputs[1]["instances"].pred_classes.tolist() == [0]
    assert outputs[1]["instances"].pred_boxes.tensor.tolist() == [[0.0, 2.0, 3.0, 4.0]]


def test_trivial_predictor_predicts_the_stuff_class_of_most_pixels(tiny_records):
    # Without class 1 among the stuff, class 2 (6 + 6 pixels) has more than class 0 (4 + 6).
    predictor = ConstantPredictor.for_dataset(tiny_records, thing_ids={1})
    panoptic_map, segments = predictor([{"height": 2, "width": 3}])[0]["panoptic_seg"]
    assert torch.equal(panoptic_map, torch.ones(2, 3, dtype=torch.int32))
    assert segments == [{"id": 1, "category_id": 2, "isthing": False}]


def test_trivial_predictor_takes_the_size_from_the_annotation_too(tiny_records):
    predictor = ConstantPredictor(1)
    assert predictor(tiny_records)[1]["panoptic_seg"][0].shape == (4, 6)


def test_dataset_without_stuff_has_no_trivial_predictor(tiny_records):
    with pytest.raises(ValueError, match="no stuff"):
        ConstantPredictor.for_dataset(tiny_records, thing_ids={0, 1, 2})
