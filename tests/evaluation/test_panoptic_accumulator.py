import numpy as np
import pytest

from deeplab2_d2.evaluation import PanopticQuality

VOID = 255_000


def _metric(**options):
    options = {"num_classes": 3, "ignore_label": 255, "label_divisor": 1000, **options}
    return PanopticQuality(**options)


def test_worked_example_of_match_miss_and_false_alarm():
    # Class 1: 4 of 5 pixels agree (IoU 4/5). Class 2: one miss, and one false alarm elsewhere.
    truth = np.array([1001] * 5 + [2001] * 3 + [0] * 2)
    prediction = np.array([1007] * 4 + [0] * 4 + [2002] * 2)
    metric = _metric()
    metric.add(truth, prediction)
    assert metric.iou.tolist() == [0.0, 0.8, 0.0]
    # Class 0 covers 2 true pixels and 4 others: no overlap at all.
    assert metric.num_true_positives.tolist() == [0, 1, 0]
    assert metric.num_false_negatives.tolist() == [1, 0, 1]
    assert metric.num_false_positives.tolist() == [1, 0, 1]
    assert metric.result()["PQ"] == pytest.approx(0.8 / 3)
    assert metric.result()["RQ"] == pytest.approx(1 / 3)


def test_half_overlap_is_no_match():
    metric = _metric()
    metric.add(np.array([1001, 1001, 0]), np.array([1001, 0, 0]))
    assert metric.num_true_positives[1] == 0


def test_pixels_on_void_do_not_count_against_a_segment():
    # 2 of 5 predicted pixels are on void: IoU is 3/3. A segment mostly on void is no false alarm.
    truth = np.array([1001] * 3 + [VOID] * 4 + [0])
    prediction = np.array([1001] * 5 + [2001] * 2 + [2001])
    metric = _metric()
    metric.add(truth, prediction)
    assert metric.iou[1] == 1.0
    assert metric.num_false_positives.tolist() == [0, 0, 0]


def test_negative_predictions_are_void():
    metric = _metric()
    metric.add(np.array([1001, 1001, 1001]), np.array([1001, 1001, -1]))
    assert metric.iou[1] == pytest.approx(2 / 3)
    assert metric.num_false_positives.tolist() == [0, 0, 0]


def test_ignored_class_may_be_one_of_the_classes():
    metric = _metric(ignore_label=0)
    metric.add(np.array([1001, 0, 0]), np.array([1001, 1001, 0]))
    assert metric.iou.tolist() == [0.0, 1.0, 0.0]
    assert metric.result()["PQ"] == 1.0


def test_crowds_are_neither_missed_nor_false_alarms():
    # Class 1: a crowd of 3 pixels and an object of 2. What covers 2 pixels of the crowd and one
    # beside it is no false alarm; of another class, the same would be one.
    truth = np.array([1000, 1000, 1000, 0, 1001, 1001])
    for label, num_wrong in ((1005, 0), (2005, 1)):
        metric = _metric(crowd_ids=[1, 2])
        metric.add(truth, np.array([label, label, 0, label, 1001, 1001]))
        assert metric.num_false_negatives.tolist() == [1, 0, 0]
        assert metric.num_true_positives.tolist() == [0, 1, 0]
        assert metric.num_false_positives.tolist()[1:] == [0, num_wrong]


def test_two_accumulators_merge_into_one():
    truth, prediction = np.array([1001, 1001, 0, 2001]), np.array([1001, 1001, 2001, -1])
    one, other, both = _metric(), _metric(), _metric()
    for part in (one, both):
        part.add(truth, prediction)
    for part in (other, both):
        part.add(prediction, truth)
    one.merge(other)
    assert one.result() == both.result()
    # Class 1 alone is right throughout.
    assert one.result([1])["PQ"] == 1.0 and one.result()["PQ"] < 1.0


def test_reset_forgets_and_nothing_at_all_is_nan():
    metric = _metric()
    metric.add(np.array([1001]), np.array([1001]))
    metric.reset()
    assert np.isnan(metric.result()["PQ"])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="prediction must be"):
        _metric().add(np.zeros((2, 2), int), np.zeros((2, 3), int))
