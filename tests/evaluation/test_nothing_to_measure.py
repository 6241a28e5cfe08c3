"""Sets without stuff, without things, without any annotation: scores are NaN, and said to be."""

import logging
import math

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import panoptic_metadata, register_panoptic_dataset
from deeplab2_d2.evaluation import (
    ConstantPredictor,
    GroundTruthPredictor,
    OnTheFlyPanopticEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    SemanticEvaluator,
)

_APPLE, _SKY = {"id": 3, "name": "apple", "isthing": 1}, {"id": 8, "name": "sky", "isthing": 0}
_NAME = "test_nothing_to_measure"


@pytest.fixture
def make_dataset(tmp_path):
    def make(categories, shown, num_images=1):
        (tmp_path / "images").mkdir()
        writer = PanopticWriter(
            panoptic_root=str(tmp_path / "png"),
            panoptic_json=str(tmp_path / "panoptic.json"),
            categories=categories,
        )
        mask = np.zeros((6, 8), bool)
        mask[:3] = True
        for k in range(num_images):
            Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "images" / f"{k}.png")
            writer.add(f"{k}.png", (6, 8), [Segment(mask, category["id"]) for category in shown])
        register_panoptic_dataset(
            _NAME,
            panoptic_metadata(categories),
            image_root=str(tmp_path / "images"),
            panoptic_root=str(tmp_path / "png"),
            panoptic_json=writer.close(),
        )

    yield make
    DatasetCatalog.remove(_NAME)
    MetadataCatalog.remove(_NAME)


def _evaluate(evaluator, predictor):
    evaluator.reset()
    for record in DatasetCatalog.get(_NAME):
        evaluator.process([record], predictor([record]))
    return evaluator.evaluate()


@pytest.mark.parametrize("evaluator", [PanopticQualityEvaluator, OnTheFlyPanopticEvaluator])
@pytest.mark.parametrize("shown, missing", [(_APPLE, "st"), (_SKY, "th")])
@pytest.mark.parametrize("is_alone", [True, False])
def test_pq_of_the_kind_that_is_missing_is_nan(
    make_dataset, caplog, evaluator, shown, missing, is_alone
):
    # The other kind has no class at all, or a class that occurs nowhere.
    make_dataset([shown] if is_alone else [_APPLE, _SKY], [shown])
    caplog.set_level(logging.WARNING)
    predictor = GroundTruthPredictor(num_classes=2, thing_ids=(0,) if shown is _APPLE else ())
    scores = _evaluate(evaluator(_NAME), predictor)["panoptic_seg"]
    there = {"st": "th", "th": "st"}[missing]
    assert scores["PQ"] == scores[f"PQ_{there}"] == 100
    assert math.isnan(scores[f"PQ_{missing}"]) and math.isnan(scores[f"SQ_{missing}"])
    assert f"PQ of {'stuff' if missing == 'st' else 'things'} is NaN: no" in caplog.text


@pytest.mark.parametrize("evaluator", [PanopticQualityEvaluator, OnTheFlyPanopticEvaluator])
@pytest.mark.parametrize("num_images", [0, 2])
def test_without_ground_truth_every_score_is_nan(make_dataset, caplog, evaluator, num_images):
    make_dataset([_APPLE, _SKY], [], num_images)
    caplog.set_level(logging.WARNING)
    predictor = GroundTruthPredictor(num_classes=2, thing_ids=(0,))
    scores = _evaluate(evaluator(_NAME), predictor)["panoptic_seg"]
    assert all(math.isnan(score) for score in scores.values())
    assert "PQ of all is NaN: no class occurs" in caplog.text
    semantic = _evaluate(SemanticEvaluator(_NAME), predictor)["sem_seg"]
    assert all(math.isnan(semantic[name]) for name in ("fwIoU", "mACC", "pACC"))
    assert "no pixel of the ground truth has a class" in caplog.text
    instances = _evaluate(PanopticInstanceEvaluator(_NAME), predictor)
    assert all(math.isnan(score) for score in instances.get("segm", {}).values())


def test_what_is_predicted_where_nothing_is_annotated_is_no_error(make_dataset):
    # All of the prediction lies on unlabeled pixels: neither found nor false.
    make_dataset([_APPLE, _SKY], [])
    for evaluator in (PanopticQualityEvaluator, OnTheFlyPanopticEvaluator):
        scores = _evaluate(evaluator(_NAME), ConstantPredictor(1))["panoptic_seg"]
        assert math.isnan(scores["PQ"])


def test_ap_of_a_set_without_things_is_left_out_with_a_sentence(make_dataset, caplog):
    make_dataset([_SKY], [_SKY])
    caplog.set_level(logging.WARNING)
    predictor = GroundTruthPredictor(num_classes=1, thing_ids=())
    assert _evaluate(PanopticInstanceEvaluator(_NAME), predictor) == {}
    assert "the dataset has no class that is a thing" in caplog.text
