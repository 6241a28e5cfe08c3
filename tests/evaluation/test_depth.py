import numpy as np
import pytest

from deeplab2_d2.evaluation import DepthMetrics


def test_worked_example():
    # Known depths 1 and 4, predicted 2 and 4; the third is unknown.
    metric = DepthMetrics()
    metric.add(np.array([1.0, 4.0, 0.0]), np.array([2.0, 4.0, 9.0]))
    result = metric.result()
    # Log errors log 2 and 0: their standard deviation is log(2) / 2.
    assert result["SILog"] == pytest.approx(100 * np.log(2) / 2)
    assert result["SqErrorRel"] == pytest.approx(0.5)
    assert result["AbsErrorRel"] == pytest.approx(0.5)
    assert result["DepthInlier"] == 0.5


def test_scale_alone_costs_no_silog():
    metric = DepthMetrics()
    metric.add(np.array([1.0, 4.0]), np.array([3.0, 12.0]))
    assert metric.result()["SILog"] == pytest.approx(0.0, abs=1e-6)


def test_images_are_averaged_and_those_without_depth_left_out():
    metric = DepthMetrics()
    metric.add(np.array([1.0]), np.array([1.0]))
    metric.add(np.array([1.0]), np.array([2.0]))
    metric.add(np.array([0.0]), np.array([2.0]))
    assert metric.result()["DepthInlier"] == 0.5
    metric.reset()
    assert np.isnan(metric.result()["SILog"])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="prediction must be"):
        DepthMetrics().add(np.ones(2), np.ones(3))
