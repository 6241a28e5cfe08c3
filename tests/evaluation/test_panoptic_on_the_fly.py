"""Panoptic quality on the fly equals panopticapi's to the last digit."""

import pytest
import torch

from deeplab2_d2.evaluation import OnTheFlyPanopticEvaluator, PanopticQualityEvaluator

pytest.importorskip("panopticapi")


def evaluate(evaluator, samples):
    evaluator.reset()
    for sample, panoptic_seg in samples:
        evaluator.process([sample], [{"panoptic_seg": panoptic_seg}])
    return evaluator.evaluate()["panoptic_seg"]


@pytest.mark.parametrize("num_processors", [1, 2, 3, 16])
def test_scores_equal_panopticapi_to_the_last_digit(random_dataset, num_processors, monkeypatch):
    name, samples = random_dataset
    # Both divide the images among the machine's processors.
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: num_processors)
    expected = evaluate(PanopticQualityEvaluator(name, per_class=True), samples)
    # Another order of the images, as several processes give.
    ours = evaluate(OnTheFlyPanopticEvaluator(name, per_class=True), samples[::-1])
    assert ours == expected
    assert 0 < ours["PQ"] < 100 and ours["SQ_th"] > 50


def test_maps_without_a_list_are_panoptic_labels(random_dataset):
    name, samples = random_dataset
    labels = []
    for sample, (panoptic_map, infos) in samples:
        table = {info["id"]: info["category_id"] * 1000 + info["id"] for info in infos}
        flat = [table.get(i, -1) for i in panoptic_map.flatten().tolist()]
        labels.append((sample, (torch.tensor(flat).view(panoptic_map.shape), None)))
    ours = evaluate(OnTheFlyPanopticEvaluator(name), labels)
    assert ours == evaluate(OnTheFlyPanopticEvaluator(name), samples)


def test_wrong_input_is_named(random_dataset):
    name, samples = random_dataset
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
