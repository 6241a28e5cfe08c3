import numpy as np
import pytest

from deeplab2_d2.evaluation import PanopticInstanceAP


def _maps(prediction, scores):
    probabilities = np.full((*prediction.shape, 3), 0.5)
    return probabilities, np.asarray(scores, float)


def test_perfect_instances_score_one_and_stuff_is_passed_over():
    truth = np.array([[1001, 1001, 0, 2001]])
    metric = PanopticInstanceAP(thing_ids=[1, 2], label_divisor=1000)
    metric.add(truth, truth, *_maps(truth, [[1, 1, 1, 1]]))
    assert metric.result()["AP"] == pytest.approx(1.0)
    assert metric.result()["APl"] == -1.0


def test_score_is_class_probability_times_instance_score():
    # Two predictions for one instance: the right one is ranked first only if its product is larger.
    truth = np.array([[1001, 1001, 1001, 0]])
    prediction = np.array([[1001, 1001, 1001, 1002]])
    results = []
    for wrong_probability, wrong_score in ((0.5, 0.5), (0.9, 0.5), (0.9, 0.3)):
        probabilities, scores = _maps(prediction, [[0.6, 0.6, 0.6, wrong_score]])
        probabilities[0, 3, 1] = wrong_probability
        metric = PanopticInstanceAP(thing_ids=[1], label_divisor=1000)
        metric.add(truth, prediction, probabilities, scores)
        results.append(metric.result()["AP50"])
    # 0.3 against 0.25, 0.45 and 0.27.
    assert results == [pytest.approx(1.0), pytest.approx(0.5), pytest.approx(1.0)]


def test_instance_on_a_crowd_is_no_mistake():
    truth = np.array([[1001, 1001, 1002, 1002]])
    prediction = np.array([[1001, 1001, 0, 1005]])
    metric = PanopticInstanceAP(thing_ids=[1], label_divisor=1000)
    crowd = np.array([[False, False, True, True]])
    metric.add(truth, prediction, *_maps(prediction, [[0.5, 0.5, 1, 0.9]]), crowd)
    assert metric.result()["AP"] == pytest.approx(1.0)


def test_nothing_predicted_scores_zero():
    metric = PanopticInstanceAP(thing_ids=[1], label_divisor=1000)
    truth = np.array([[1001, 0]])
    metric.add(truth, np.zeros((1, 2), int), *_maps(truth, [[1, 1]]))
    assert set(metric.result().values()) == {0.0}
