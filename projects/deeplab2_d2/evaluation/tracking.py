"""Segmentation and tracking quality of videos, with or without depth."""

from collections import Counter, OrderedDict
from typing import Any, Dict, Hashable, Iterable, Sequence, Tuple

import numpy as np

from .label_pairs import LabelPairs, count_label_pairs


class _Sequence:
    """What one video has accumulated."""

    def __init__(self, confusion_size: int, num_thresholds: int):
        self.confusion = np.zeros((confusion_size, confusion_size), dtype=np.int64)
        self.num_frames = 0
        self.true_areas: Counter = Counter()
        self.predicted_areas: Counter = Counter()
        self.overlaps: Counter = Counter()
        self.num_inliers = np.zeros(num_thresholds, dtype=np.int64)
        self.num_depths = 0

    def sum_of_tubes(self) -> float:
        """The association terms of all true tubes."""
        total = 0.0
        for (true_label, label), overlap in self.overlaps.items():
            true_area = self.true_areas[true_label]
            union = true_area + self.predicted_areas[label] - overlap
            # In float32, as DeepLab2: the sets compared with it hold 8 digits.
            common = np.float32(overlap)
            total += float(common * (common / np.float32(union))) / true_area
        return total


class SegmentationTrackingQuality:
    """
    Segmentation and tracking quality (STQ): the geometric mean of association and class IoU.

    Reference: STEP (arXiv:2102.11859), as DeepLab2's metric computes it.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        thing_ids: Sequence[int],
        ignore_label: int,
        label_divisor: int,
        depth_thresholds: Sequence[float] = (),
    ):
        """
        Args:
            num_classes: number of classes, ``ignore_label`` included if it is among them.
            thing_ids: classes whose identity is tracked.
            ignore_label: class that is not evaluated; any number.
            label_divisor: label = class * label_divisor + instance. Instance 0 of a thing is a
                crowd, which the association ignores.
            depth_thresholds: ratios of depths that still count as right; see
                :meth:`depth_result`.
        """
        self.num_classes = num_classes
        self.thing_ids = np.array(sorted(thing_ids))
        self.ignore_label = ignore_label
        self.label_divisor = label_divisor
        self.depth_thresholds = tuple(depth_thresholds)
        is_inside = 0 <= ignore_label < num_classes
        self._void = ignore_label if is_inside else num_classes
        self._confusion_size = num_classes if is_inside else num_classes + 1
        self._is_thing = np.isin(np.arange(self._confusion_size), self.thing_ids)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sequences: "OrderedDict[Hashable, _Sequence]" = OrderedDict()

    def add(self, truth: np.ndarray, prediction: np.ndarray, sequence: Hashable = 0) -> None:
        """
        Add a frame.

        Args:
            truth, prediction: integer panoptic labels of one shape, with the identity over the
                video as instance. A negative prediction is void.
            sequence: which video the frame is of.

        Raises:
            ValueError: if the shapes differ.
        """
        self.add_pairs(count_label_pairs(truth, prediction), sequence)

    def add_pairs(self, pairs: LabelPairs, sequence: Hashable = 0) -> None:
        """
        Add a frame by what :func:`count_label_pairs` found in it.

        Args:
            pairs: labels as for :meth:`add`.
            sequence: see :meth:`add`.
        """
        state = self._state(sequence)
        state.num_frames += 1
        truth, prediction, pixels = pairs
        true_class = self._classes(truth)
        predicted_class = self._classes(prediction)
        np.add.at(state.confusion, (true_class, predicted_class), pixels)
        is_true_thing = self._is_thing[true_class]
        is_crowd = is_true_thing & (truth % self.label_divisor == 0)
        is_tube = is_true_thing & ~is_crowd
        is_predicted = self._is_thing[predicted_class] & ~is_crowd
        _count(state.true_areas, truth[is_tube].tolist(), pixels[is_tube])
        _count(state.predicted_areas, prediction[is_predicted].tolist(), pixels[is_predicted])
        both = is_tube & is_predicted
        labels = zip(truth[both].tolist(), prediction[both].tolist())
        _count(state.overlaps, labels, pixels[both])

    def merge(self, other: "SegmentationTrackingQuality") -> None:
        """
        Add the sequences of another accumulator of the same options.

        Raises:
            ValueError: if both have seen frames of one sequence.
        """
        common = [sequence for sequence in other._sequences if sequence in self._sequences]
        if common:
            raise ValueError(f"a sequence must be in one of the two, got {common[0]!r} in both")
        self._sequences.update(other._sequences)

    def add_depth(self, truth: np.ndarray, prediction: np.ndarray, sequence: Hashable = 0) -> None:
        """
        Add a frame's depth.

        Args:
            truth, prediction: (H, W) float. Where the truth is not positive nothing is known; a
                prediction that is not positive is wrong.
            sequence: see :meth:`add`.
        """
        state = self._state(sequence)
        is_known = truth > 0
        state.num_depths += int(is_known.sum())
        both = is_known & (prediction > 0)
        ratio = prediction[both] / truth[both]
        ratio = np.maximum(ratio, truth[both] / prediction[both])
        for index, threshold in enumerate(self.depth_thresholds):
            state.num_inliers[index] += int((ratio <= np.float32(threshold)).sum())

    def _state(self, sequence: Hashable) -> _Sequence:
        if sequence not in self._sequences:
            self._sequences[sequence] = _Sequence(self._confusion_size, len(self.depth_thresholds))
        return self._sequences[sequence]

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        classes = labels // self.label_divisor
        is_void = (classes == self.ignore_label) | (labels < 0)
        return np.where(is_void, self._void, classes)

    def result(self) -> Dict[str, Any]:
        """
        Returns:
            "STQ", "AQ" (association) and "IoU" in [0, 1]; the same by sequence in the lists
            "STQ_per_seq", "AQ_per_seq" and "IoU_per_seq", in the order of "ID_per_seq", with the
            numbers of frames in "Length_per_seq".
        """
        states = list(self._sequences.values())
        sums = np.array([state.sum_of_tubes() for state in states])
        num_tubes = np.array([len(state.true_areas) for state in states])
        association = sums.sum() / max(num_tubes.sum(), 1)
        association_of = sums / np.maximum(num_tubes, 1)
        iou = self._mean_iou(self._total_confusion())
        iou_of = np.array([self._mean_iou(state.confusion) for state in states])
        return {
            "STQ": float(np.sqrt(association * iou)),
            "AQ": float(association),
            "IoU": iou,
            "STQ_per_seq": np.sqrt(association_of * iou_of).tolist(),
            "AQ_per_seq": association_of.tolist(),
            "IoU_per_seq": iou_of.tolist(),
            "ID_per_seq": list(self._sequences),
            "Length_per_seq": [state.num_frames for state in states],
        }

    def class_iou(self) -> np.ndarray:
        """(num_classes,) float: IoU of each class in [0, 1]; NaN where it does not occur."""
        hits, unions = self._hits_and_unions(self._total_confusion())
        iou = np.full(len(hits), np.nan)
        np.divide(hits, unions, out=iou, where=unions > 0)
        return iou[: self.num_classes]

    def _total_confusion(self) -> np.ndarray:
        size = self._confusion_size
        confusions = (state.confusion for state in self._sequences.values())
        return sum(confusions, np.zeros((size, size), np.int64))

    def _hits_and_unions(self, confusion: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Of each class, void the last or one of them; rows of ``confusion`` are true classes."""
        confusion = np.array(confusion, dtype=float)
        # What lies on void pixels is neither right nor wrong.
        confusion[self._void] = 0.0
        hits = confusion.diagonal()
        return hits, confusion.sum(0) + confusion.sum(1) - hits

    def _mean_iou(self, confusion: np.ndarray) -> float:
        """Over the classes that occur."""
        hits, unions = self._hits_and_unions(confusion)
        num_classes = np.count_nonzero(unions)
        return float((hits / np.maximum(unions, 1)).sum() / num_classes) if num_classes else 0.0

    def depth_result(self) -> Dict[str, Any]:
        """
        Scores with depth: depth-aware STQ, the geometric mean of association, IoU and depth.

        As DeepLab2's ``DSTQuality``.

        Returns:
            :meth:`result`'s, "DQ@t" (part of the depths within a ratio of t), their geometric mean
            "DQ", and "DSTQ@t", "DSTQ"; "DQ_per_seq@t" and "DSTQ_per_seq@t" by sequence.
        """
        scores = self.result()
        states = list(self._sequences.values())
        num_depths = np.array([state.num_depths for state in states])
        product = 1.0
        for index, threshold in enumerate(self.depth_thresholds):
            num_inliers = np.array([state.num_inliers[index] for state in states])
            quality = float(num_inliers.sum() / max(num_depths.sum(), 1))
            quality_of = num_inliers / np.maximum(num_depths, 1)
            product *= quality
            scores[f"DQ@{threshold}"] = quality
            scores[f"DQ_per_seq@{threshold}"] = quality_of.tolist()
            scores[f"DSTQ@{threshold}"] = _combine(scores["STQ"], quality)
            scores[f"DSTQ_per_seq@{threshold}"] = [
                _combine(*pair) for pair in zip(scores["STQ_per_seq"], quality_of.tolist())
            ]
        scores["DQ"] = product ** (1.0 / max(len(self.depth_thresholds), 1))
        scores["DSTQ"] = _combine(scores["STQ"], scores["DQ"])
        return scores


def _combine(tracking_quality: float, depth_quality: float) -> float:
    return float((tracking_quality**2 * depth_quality) ** (1 / 3))


def _count(areas: Counter, labels: Iterable[Hashable], pixels: np.ndarray) -> None:
    for label, area in zip(labels, pixels.tolist()):
        areas[label] += area
