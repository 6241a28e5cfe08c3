import numpy as np
import pytest

from deeplab2_d2.evaluation import VideoPanopticQuality

STEADY, SWAPPED = np.array([[1001, 1001, 0]]), np.array([[1002, 1002, 0]])


def _metric(windows):
    options = {"num_classes": 3, "ignore_label": 255, "label_divisor": 1000}
    return VideoPanopticQuality(**options, windows=windows)


def test_identity_that_changes_between_frames_costs_a_tube():
    broken = _metric([1, 2])
    broken.add(STEADY, STEADY)
    broken.add(STEADY, SWAPPED)
    # Numbers do not matter within a frame.
    assert broken.result([1])[1, ""] == 1.0
    # The two halves overlap the tube by exactly one half: a miss and two false alarms.
    tubes = broken.qualities[2]
    assert tubes.num_true_positives.tolist() == [1, 0, 0]
    assert tubes.num_false_negatives[1] == 1
    assert tubes.num_false_positives[1] == 2
    assert broken.result([1]) == {
        **{(1, ""): 1.0, (1, "_th"): 1.0, (1, "_st"): 1.0},
        **{(2, ""): 0.5, (2, "_th"): 0.0, (2, "_st"): 1.0},
    }


def test_no_window_spans_two_sequences():
    # Each sequence has a number of its own, which is no change.
    total, second = _metric([1, 2]), _metric([1, 2])
    for _ in range(2):
        total.add(STEADY, STEADY)
        second.add(STEADY, SWAPPED)
    total.merge(second)
    assert total.result([1])[2, ""] == 1.0
    assert total.qualities[2].num_true_positives.tolist() == [2, 2, 0]


def test_a_sequence_shorter_than_the_window_has_no_score():
    metric = _metric([2])
    metric.add(STEADY, STEADY)
    assert np.isnan(metric.result([1])[2, ""])


@pytest.mark.parametrize("windows", [[], [0, 1], [2, 2]])
def test_windows_must_be_different_lengths(windows):
    with pytest.raises(ValueError, match="windows must be different lengths"):
        _metric(windows)
