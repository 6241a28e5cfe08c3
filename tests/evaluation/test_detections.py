"""Detections of Detectron2's detectors, whose classes are places among the things."""

import importlib.util

import pytest
import torch
from detectron2.data import MetadataCatalog

from deeplab2_d2.evaluation import (
    GroundTruthPredictor,
    PanopticDetectionEvaluator,
    build_detection_evaluator,
)


def detections(records):
    """The ground truth as a detector would predict it: cat and dog, 0 and 2, are places 0 and 1."""
    outputs = GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(records)
    for output in outputs:
        classes = output["instances"].pred_classes
        output["instances"].pred_classes = (classes == 2).long()
    return outputs


def test_a_detectors_ground_truth_scores_100_where_things_are_not_the_first_ids(
    tiny_dataset, tiny_records, run
):
    evaluator = PanopticDetectionEvaluator(tiny_dataset, None, tasks=("bbox", "segm"))
    scores = run(evaluator, tiny_records, detections(tiny_records))
    for task in ("bbox", "segm"):
        assert scores[task]["AP-cat"] == pytest.approx(100.0)
        assert scores[task]["AP-dog"] == pytest.approx(100.0)


def test_a_class_that_is_no_place_among_the_things_names_the_key(tiny_dataset, tiny_records):
    evaluator = PanopticDetectionEvaluator(tiny_dataset, None, tasks=("bbox",))
    evaluator.reset()
    outputs = detections(tiny_records)
    outputs[0]["instances"].pred_classes = torch.tensor([0, 2])
    with pytest.raises(ValueError, match="MODEL.ROI_HEADS.NUM_CLASSES 2.*got 2"):
        evaluator.process(tiny_records, outputs)


def test_lvis_without_its_package_is_met_with_the_command_that_installs_it(monkeypatch):
    name = "test_lvis"
    MetadataCatalog.get(name).set(evaluator_type="lvis")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="test_lvis .*not installed: run `pip install lvis`"):
        build_detection_evaluator(name, None, tasks=("bbox",))
    MetadataCatalog.remove(name)
