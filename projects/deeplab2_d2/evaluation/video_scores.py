"""All scores of a sequence of frames, accumulated together."""

from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..structures import DatasetClasses
from .depth import DepthMetrics
from .label_pairs import LabelPairs, count_label_pairs
from .tracking import SegmentationTrackingQuality
from .video_frames import FrameTruth
from .video_panoptic import VideoPanopticQuality

# Ratios of depths of DSTQ, as in DeepLab2's metric.
DEPTH_RATIOS = (1.25, 1.1)
# Lambdas of DVPQ, largest first: ViP-DeepLab (arXiv:2012.05258).
DEPTH_ERRORS = (0.5, 0.25, 0.1)


class VideoScores:
    """
    STQ and VPQ of a sequence, with depth also DSTQ, DVPQ and the depth errors.

    DVPQ is VPQ where the predicted pixels whose absolute relative depth error is above lambda
    become void; where the true depth is unknown, the prediction stays.

    Reference: ViP-DeepLab (arXiv:2012.05258) and its ``eval_dvpq.py``. Unlike that, means are over
    the classes that occur, and crowds are left out, as in PQ (and VPSNet's script for VPQ):
    ViP-DeepLab's knows none, as DeepLab2's metric.
    """

    def __init__(
        self,
        classes: DatasetClasses,
        *,
        windows: Sequence[int],
        has_tracks: bool = True,
        has_depth: bool = False,
    ):
        """
        Args:
            classes: the dataset's.
            windows: lengths k of VPQ, in frames.
            has_tracks: whether frames have ``track``.
            has_depth: whether frames have ``depth``.
        """
        self.classes = classes
        self.depth = DepthMetrics() if has_depth else None
        self.tracking: Optional[SegmentationTrackingQuality] = None
        self.panoptic: Optional[VideoPanopticQuality] = None
        self.depth_panoptic: Tuple[VideoPanopticQuality, ...] = ()
        if not has_tracks:
            return
        self.tracking = SegmentationTrackingQuality(
            num_classes=classes.num_classes,
            thing_ids=classes.thing_ids,
            ignore_label=classes.ignore_label,
            label_divisor=classes.label_divisor,
            depth_thresholds=DEPTH_RATIOS if has_depth else (),
        )
        self.panoptic, *with_depth = (
            VideoPanopticQuality(
                num_classes=classes.num_classes,
                ignore_label=classes.ignore_label,
                label_divisor=classes.label_divisor,
                crowd_ids=classes.thing_ids,
                windows=windows,
            )
            for _ in range(1 + (len(DEPTH_ERRORS) if has_depth else 0))
        )
        self.depth_panoptic = tuple(with_depth)

    def add(
        self,
        sequence: str,
        truth: FrameTruth,
        track: Optional[np.ndarray],
        depth: Optional[np.ndarray],
    ) -> None:
        """
        Add the next frame.

        Args:
            sequence: its name, the same for all frames until :meth:`merge`.
            truth: annotation.
            track: (H, W) int32 panoptic labels with tracks, -1 is void; None without tracks.
            depth: (H, W) float32, meters; None without depth.

        Raises:
            ValueError: if a map is not of the truth's size, a class is not the dataset's, or the
                truth has a segment that is not listed.
        """
        for name, ours, true in (("track", track, truth.ids), ("depth", depth, truth.depth)):
            if ours is not None and true is not None and ours.shape != true.shape:
                raise ValueError(f"{name} must be {true.shape}, as the truth, got {ours.shape}")
        if depth is not None and truth.depth is not None:
            assert self.depth is not None
            self.depth.add(truth.depth, depth)
        if track is None:
            return
        assert self.tracking is not None and self.panoptic is not None
        pairs, num_wrong = self._count_pairs(truth, track, depth)
        self._check_classes(pairs.prediction)
        self.tracking.add_pairs(pairs, sequence)
        self.panoptic.add_pairs(pairs)
        for place, quality in enumerate(self.depth_panoptic):
            is_void = num_wrong >= len(DEPTH_ERRORS) - place
            quality.add_pairs(pairs._replace(prediction=np.where(is_void, -1, pairs.prediction)))
        if depth is not None and truth.depth is not None:
            self.tracking.add_depth(truth.depth, depth, sequence)

    def _count_pairs(
        self, truth: FrameTruth, track: np.ndarray, depth: Optional[np.ndarray]
    ) -> Tuple[LabelPairs, np.ndarray]:
        """The pairs of labels, and how many of DEPTH_ERRORS the depth of each is beyond."""
        assert truth.ids is not None
        if depth is None or truth.depth is None:
            pairs = count_label_pairs(truth.ids, track)
            num_wrong = np.zeros(len(pairs.pixels), np.int64)
        else:
            # One count for all lambdas: pixels of a label are told apart by their error.
            levels = len(DEPTH_ERRORS) + 1
            coded = track.astype(np.int64) * levels + _count_errors(truth.depth, depth)
            pairs = count_label_pairs(truth.ids, coded)
            num_wrong = pairs.prediction % levels
            pairs = pairs._replace(prediction=pairs.prediction // levels)
        unknown = sorted(set(pairs.truth.tolist()) - set(truth.labels))
        if unknown:
            raise ValueError(f"the map has segments {unknown[:5]} that segments_info does not list")
        labels = [truth.labels[segment] for segment in pairs.truth.tolist()]
        return pairs._replace(truth=np.array(labels, dtype=np.int64)), num_wrong

    def _check_classes(self, labels: np.ndarray) -> None:
        classes = labels // self.classes.label_divisor
        if classes.max(initial=0) >= self.classes.num_classes:
            raise ValueError(
                f"track must have classes below {self.classes.num_classes}, got {classes.max()}"
            )

    def merge(self, other: "VideoScores") -> None:
        """Add another sequence's."""
        for ours, theirs in zip(self._parts(), other._parts()):
            ours.merge(theirs)

    def _parts(self) -> List[Any]:
        parts = [self.tracking, self.panoptic, *self.depth_panoptic, self.depth]
        return [part for part in parts if part is not None]

    def results(self) -> "OrderedDict[str, Dict[str, float]]":
        """See :meth:`VideoEvaluator.evaluate`."""
        results: "OrderedDict[str, Dict[str, float]]" = OrderedDict()
        if self.tracking is not None and self.panoptic is not None:
            results["stq"] = _tracking_result(self.tracking, self.classes)
            lengths = [self.panoptic.result(self.classes.thing_ids)]
            results["vpq"] = _panoptic_result("VPQ", lengths, [""])
        if self.tracking is not None and self.depth_panoptic:
            results["dstq"] = _depth_tracking_result(self.tracking)
            lengths = [quality.result(self.classes.thing_ids) for quality in self.depth_panoptic]
            results["dvpq"] = _panoptic_result("DVPQ", lengths, [f"@{e}" for e in DEPTH_ERRORS])
        if self.depth is not None:
            results["depth"] = self.depth.result()
        return results


def _count_errors(truth: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(H, W) int64: how many of DEPTH_ERRORS each pixel is beyond; 0 where nothing is known."""
    is_known = truth > 0
    error = np.abs(depth - truth) / np.where(is_known, truth, np.float32(1))
    count = np.zeros(truth.shape, np.int64)
    for limit in DEPTH_ERRORS:
        # Not "above", so that a depth that is no number is wrong.
        count += is_known & ~(error <= limit)
    return count


def _tracking_result(
    tracking: SegmentationTrackingQuality, classes: DatasetClasses
) -> Dict[str, float]:
    scores = tracking.result()
    names = {"STQ": "STQ", "AQ": "AQ", "SQ": "IoU"}
    result = {name: 100 * scores[key] for name, key in names.items()}
    for class_name, iou in zip(classes.names, tracking.class_iou().tolist()):
        result[f"IoU-{class_name}"] = 100 * iou
    for place, sequence in enumerate(scores["ID_per_seq"]):
        for name, key in names.items():
            result[f"{name}-{sequence}"] = 100 * scores[f"{key}_per_seq"][place]
    return result


def _depth_tracking_result(tracking: SegmentationTrackingQuality) -> Dict[str, float]:
    scores = tracking.depth_result()
    names = [f"{name}{suffix}" for name in ("DSTQ", "DQ") for suffix in ("", *_ratio_suffixes())]
    result = {name: 100 * scores[name] for name in names}
    for place, sequence in enumerate(scores["ID_per_seq"]):
        for suffix in _ratio_suffixes():
            result[f"DSTQ{suffix}-{sequence}"] = 100 * scores[f"DSTQ_per_seq{suffix}"][place]
    return result


def _ratio_suffixes() -> List[str]:
    return [f"@{ratio}" for ratio in DEPTH_RATIOS]


def _panoptic_result(
    name: str, results: Sequence[Dict[Tuple[int, str], float]], suffixes: Sequence[str]
) -> Dict[str, float]:
    """
    Means over lengths and lambdas, over the lengths for each lambda, and each score.

    Args:
        name: "VPQ" or "DVPQ".
        results: by length and part, for each lambda.
        suffixes: of the names, for each lambda.
    """
    parts = ("", "_th", "_st")
    values: Dict[str, float] = {}
    for part in parts:
        scores = [result[key] for result in results for key in result if key[1] == part]
        values[f"{name}{part}"] = float(np.mean(scores))
    for result, suffix in zip(results, suffixes):
        if suffix:
            for part in parts:
                scores = [score for key, score in result.items() if key[1] == part]
                values[f"{name}{suffix}{part}"] = float(np.mean(scores))
        for (length, part), score in result.items():
            values[f"{name}-{length}{suffix}{part}"] = score
    return {key: 100 * value for key, value in values.items()}
