"""Top-1 and top-5 accuracy."""

import pytest
import torch
from detectron2.data import DatasetCatalog

from deeplab2_d2.evaluation import ImageClassificationEvaluator


@pytest.fixture
def dataset():
    records = [{"image_id": name, "class_id": k} for name, k in (("a", 0), ("b", 6), ("c", 2))]
    DatasetCatalog.register("three_images", lambda: records)
    yield records
    DatasetCatalog.remove("three_images")


def test_accuracy_counts_images_whose_class_is_among_the_first(dataset):
    evaluator = ImageClassificationEvaluator("three_images")
    scores = {
        "a": [9.0, 0, 0, 0, 0, 0, 0],  # first
        "b": [5.0, 4, 3, 2, 0, 0, 1],  # class 6 is fifth
        "c": [9.0, 8, 1, 7, 6, 5, 0],  # class 2 is sixth
    }
    for name, values in scores.items():
        evaluator.process([{"image_id": name}], [{"class_scores": torch.tensor(values)}])
    found = evaluator.evaluate()["classification"]
    assert found == pytest.approx({"top-1": 100 / 3, "top-5": 200 / 3})


def test_of_equal_scores_the_lower_class_is_first(dataset):
    evaluator = ImageClassificationEvaluator("three_images")
    for name in "abc":
        evaluator.process([{"image_id": name}], [{"class_scores": torch.zeros(7)}])
    # Ranks 0, 6 and 2.
    found = evaluator.evaluate()["classification"]
    assert found == pytest.approx({"top-1": 100 / 3, "top-5": 200 / 3})


@pytest.mark.parametrize("values", [[float("nan")] * 7, [1.0] * 6])
def test_scores_that_are_none_are_refused(dataset, values):
    evaluator = ImageClassificationEvaluator("three_images")
    with pytest.raises(ValueError, match="class_scores of image b must be finite"):
        evaluator.process([{"image_id": "b"}], [{"class_scores": torch.tensor(values)}])


def test_an_image_without_a_prediction_is_missed(dataset):
    evaluator = ImageClassificationEvaluator("three_images")
    evaluator.process([{"image_id": "a"}], [{"class_scores": torch.zeros(7)}])
    with pytest.raises(ValueError, match="none for 2 of 3"):
        evaluator.evaluate()
