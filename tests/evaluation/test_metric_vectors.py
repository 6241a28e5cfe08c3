"""Scores that DeepLab2's unit tests expect, most of them worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplab2_d2.evaluation import DepthMetrics, SegmentationTrackingQuality

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "metric_vectors"
_FILE = _FOLDER / "deeplab2.json"
_CASES = json.loads(_FILE.read_text()) if _FILE.exists() else []

pytestmark = pytest.mark.skipif(not _CASES, reason=f"{_FILE} is not there")


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
def test_metric_gives_the_expected_scores(case):
    with np.load(_FOLDER / f"{case['name']}.npz") as arrays:
        updates = [
            [arrays[a] if isinstance(a, str) else a for a in update["arguments"]]
            for update in case["updates"]
        ]
    result = _depth(updates) if case["metric"] == "DepthMetrics" else _tracking(case, updates)
    # They are written with 7 digits.
    for name, expected in case["expected"].items():
        assert result[name] == pytest.approx(expected, rel=2e-6), name


def _depth(updates):
    metric = DepthMetrics()
    for update in updates:
        metric.add(*update)
    return {str(place): value for place, value in enumerate(metric.result().values())}


def _tracking(case, updates):
    num_classes, thing_ids, ignore_label, _, _, *thresholds = case["options"][0]
    metric = SegmentationTrackingQuality(
        num_classes=num_classes,
        thing_ids=thing_ids,
        ignore_label=ignore_label,
        label_divisor=1000,
        depth_thresholds=thresholds[0] if thresholds else (),
    )
    for truth, prediction, *depths, sequence in updates:
        metric.add(truth, prediction, sequence)
        if depths:
            metric.add_depth(*depths, sequence)
    return metric.depth_result() if thresholds else metric.result()
