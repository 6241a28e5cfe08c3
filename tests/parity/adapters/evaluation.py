"""Our metrics for the cases of ``parity/evaluation``."""

from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from deeplab2_d2.evaluation import (
    DepthMetrics,
    PanopticInstanceAP,
    PanopticQuality,
    SegmentationTrackingQuality,
    VideoPanopticQuality,
)

Arrays = Mapping[str, np.ndarray]
Params = Dict[str, Any]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our results for one case, under the reference's names; None if it is not ported."""
    if case["target"] not in _PORTS:
        return None
    scores = _PORTS[case["target"]](case["params"], arrays)
    return {name: np.asarray(score, float) for name, score in scores.items()}


def _panoptic(params: Params, arrays: Arrays) -> Dict[str, Any]:
    metric = PanopticQuality(**_panoptic_options(params))
    for truth, prediction in zip(arrays["in/gt"], arrays["in/pred"]):
        metric.add(truth, prediction)
    return _panoptic_scores(metric)


def _video_panoptic(params: Params, arrays: Arrays) -> Dict[str, Any]:
    metric = VideoPanopticQuality(**_panoptic_options(params), windows=[2])
    for truth, prediction in zip(arrays["in/gt"], arrays["in/pred"]):
        metric.add(truth, prediction)
    return _panoptic_scores(metric.qualities[2])


def _panoptic_options(params: Params) -> Dict[str, int]:
    return {
        "num_classes": params["num_classes"],
        "ignore_label": params["ignored_label"],
        "label_divisor": params["max_instances_per_category"],
    }


def _panoptic_scores(metric: PanopticQuality) -> Dict[str, Any]:
    result = metric.result()
    return {
        "result": [result[name] for name in ("PQ", "SQ", "RQ", "TP", "FN", "FP")],
        "total_iou": metric.iou,
        "total_tp": metric.num_true_positives,
        "total_fn": metric.num_false_negatives,
        "total_fp": metric.num_false_positives,
    }


def _tracking(params: Params, arrays: Arrays) -> Dict[str, Any]:
    has_depth = "in/depth_gt" in arrays
    metric = SegmentationTrackingQuality(
        num_classes=params["num_classes"],
        thing_ids=params["things_list"],
        ignore_label=params["ignore_label"],
        label_divisor=params["max_instances_per_category"],
        depth_thresholds=params.get("depth_threshold", (1.25, 1.1)) if has_depth else (),
    )
    for index, sequence in enumerate(arrays["in/sequence"].tolist()):
        metric.add(arrays["in/gt"][index], arrays["in/pred"][index], sequence)
        if has_depth:
            depths = arrays["in/depth_gt"][index], arrays["in/depth_pred"][index]
            metric.add_depth(*depths, sequence)
    return metric.depth_result() if has_depth else metric.result()


def _depth(params: Params, arrays: Arrays) -> Dict[str, Any]:
    metric = DepthMetrics()
    for truth, prediction in zip(arrays["in/gt"], arrays["in/pred"]):
        metric.add(truth, prediction)
    return {"silog_sqrel_absrel_inlier": list(metric.result().values())}


def _average_precision(params: Params, arrays: Arrays) -> Dict[str, Any]:
    things = [index for index in params["things_list"] if index != params["ignored_label"]]
    metric = PanopticInstanceAP(thing_ids=things, label_divisor=params["label_divisor"])
    names = ("in/gt", "in/pred", "in/semantic_probs", "in/instance_scores")
    for inputs in zip(*(arrays[name] for name in names)):
        metric.add(*inputs)
    return {"result": list(metric.result().values())}


_PORTS: Dict[str, Callable[[Params, Arrays], Dict[str, Any]]] = {
    "evaluation.panoptic_quality.PanopticQuality": _panoptic,
    "evaluation.video_panoptic_quality.VideoPanopticQuality": _video_panoptic,
    "evaluation.segmentation_and_tracking_quality.STQuality": _tracking,
    "evaluation.depth_aware_segmentation_and_tracking_quality.DSTQuality": _tracking,
    "evaluation.depth_metrics.DepthMetrics": _depth,
    "evaluation.coco_instance_ap.PanopticInstanceAveragePrecision": _average_precision,
}
