import numpy as np
import pytest

from deeplab2_d2.evaluation import SegmentationTrackingQuality


def _metric(**options):
    options = {"num_classes": 2, "thing_ids": [1], "ignore_label": 255, **options}
    return SegmentationTrackingQuality(label_divisor=1000, **options)


def test_association_weighs_pieces_of_a_tube_by_their_overlap():
    # One true tube of 4 pixels, cut into predictions of 3 and 1 pixels, all of the right class:
    # (3 * 3/4 + 1 * 1/4) / 4 = 0.625.
    metric = _metric()
    metric.add(np.array([[1001, 1001]]), np.array([[1005, 1005]]))
    metric.add(np.array([[1001, 1001]]), np.array([[1005, 1006]]))
    result = metric.result()
    assert result["AQ"] == pytest.approx(0.625)
    assert result["IoU"] == 1.0
    assert result["STQ"] == pytest.approx(0.625**0.5)
    assert result["Length_per_seq"] == [2]


def test_crowds_are_left_out_of_the_association_but_not_of_the_classes():
    metric = _metric()
    metric.add(np.array([[1000, 1001, 0]]), np.array([[1007, 1001, 1003]]))
    # The crowd pixel belongs to no tube; 1003 on stuff is a tube of its own, without overlap.
    assert metric.result()["AQ"] == 1.0
    # Class 0: 0 of 1; class 1: 2 of 3.
    assert metric.result()["IoU"] == pytest.approx((0 + 2 / 3) / 2)


def test_void_of_the_truth_is_not_evaluated_and_void_of_the_prediction_is_wrong():
    metric = _metric()
    metric.add(np.array([[0, 0, 255_000]]), np.array([[0, -1, 1001]]))
    # Class 0: 1 of 2 pixels. The lost pixel makes void a class that occurs, with IoU 0, as in
    # DeepLab2; class 1 does not occur outside void.
    assert metric.result()["IoU_per_seq"] == [pytest.approx(0.5 / 2)]


def test_sequences_do_not_share_identities():
    metric = _metric()
    frame = np.array([[1001, 0]])
    metric.add(frame, frame, "a")
    metric.add(frame, np.array([[1002, 0]]), "b")
    result = metric.result()
    assert result["ID_per_seq"] == ["a", "b"]
    assert result["STQ_per_seq"] == [1.0, 1.0]
    assert result["STQ"] == 1.0


def test_depth_counts_missing_predictions_as_wrong_and_unknown_depth_not_at_all():
    metric = _metric(depth_thresholds=(1.25, 1.1))
    frame = np.array([[1001, 0]])
    metric.add(frame, frame)
    # Ratios 1.2 (within 1.25 only), 1.0, no prediction, and a pixel without truth.
    metric.add_depth(np.array([10.0, 5.0, 3.0, 0.0]), np.array([12.0, 5.0, 0.0, 7.0]))
    result = metric.depth_result()
    assert result["DQ@1.25"] == pytest.approx(2 / 3)
    assert result["DQ@1.1"] == pytest.approx(1 / 3)
    assert result["DQ"] == pytest.approx((2 / 9) ** 0.5)
    assert result["DSTQ"] == pytest.approx(result["DQ"] ** (1 / 3))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="prediction must be"):
        _metric().add(np.zeros((2, 2), int), np.zeros((2, 3), int))
