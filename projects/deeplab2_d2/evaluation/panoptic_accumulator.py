"""Panoptic quality from label maps alone, without files."""

from typing import Collection, Dict, Optional

import numpy as np

from .label_pairs import LabelPairs, count_label_pairs

# What all void labels become.
_VOID = -1


class PanopticQuality:
    """
    Accumulates panoptic quality image by image, without files.

    Reference: Panoptic Segmentation (arXiv:1801.00868), Sec. 4, as DeepLab2's metric computes it.
    That one knows no crowds, so that its scores are a little higher than panopticapi's; with
    ``crowd_ids`` they are left out by panopticapi's rule.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        crowd_ids: Collection[int] = (),
    ):
        """
        Args:
            num_classes: number of classes, ``ignore_label`` included if it is among them.
            ignore_label: class that is not evaluated.
            label_divisor: label = class * label_divisor + instance.
            crowd_ids: classes of which instance 0 of the truth is a crowd: no segment to be found,
                and no false alarm what lies mostly on it and is of its class.
        """
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.label_divisor = label_divisor
        self.crowd_ids = tuple(crowd_ids)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.iou, self.num_true_positives, self.num_false_negatives, self.num_false_positives = (
            np.zeros(self.num_classes) for _ in range(4)
        )

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """
        Args:
            truth, prediction: integer panoptic labels of one shape. Void pixels have the class
                ``ignore_label`` or are negative.

        Raises:
            ValueError: if the shapes differ.
        """
        self.add_pairs(count_label_pairs(truth, prediction))

    def add_pairs(self, pairs: LabelPairs) -> None:
        """
        Add an image, or several as one, by what :func:`count_label_pairs` found in it.

        Args:
            pairs: labels as for :meth:`add`.
        """
        true_labels, true_index = np.unique(self._with_void(pairs.truth), return_inverse=True)
        labels, index = np.unique(self._with_void(pairs.prediction), return_inverse=True)
        shape = len(true_labels), len(labels)
        cell = true_index * shape[1] + index
        overlap = np.bincount(cell, pairs.pixels, shape[0] * shape[1]).reshape(shape)
        true_class, predicted_class = (
            true_labels // self.label_divisor,
            labels // self.label_divisor,
        )
        on_void = overlap[true_labels == _VOID].sum(0)
        is_crowd = np.isin(true_class, self.crowd_ids) & (true_labels % self.label_divisor == 0)
        area = overlap.sum(0)
        union = overlap.sum(1)[:, None] + area - overlap - on_void
        is_same_class = true_class[:, None] == predicted_class
        is_segment = (true_labels != _VOID) & ~is_crowd
        iou = np.where(is_same_class & is_segment[:, None], overlap / np.maximum(union, 1), 0.0)
        # More than half: at most one partner for each segment.
        matched = iou > 0.5
        rows, columns = np.nonzero(matched)
        np.add.at(self.iou, true_class[rows], iou[rows, columns])
        np.add.at(self.num_true_positives, true_class[rows], 1)
        missed = ~matched.any(1) & is_segment
        np.add.at(self.num_false_negatives, true_class[missed], 1)
        ignored = on_void + (overlap * (is_same_class & is_crowd[:, None])).sum(0)
        wrong = ~matched.any(0) & (labels != _VOID) & (ignored <= 0.5 * area)
        np.add.at(self.num_false_positives, predicted_class[wrong], 1)

    def _with_void(self, labels: np.ndarray) -> np.ndarray:
        is_void = (labels < 0) | (labels // self.label_divisor == self.ignore_label)
        return np.where(is_void, _VOID, labels)

    def merge(self, other: "PanopticQuality") -> None:
        """Add what another accumulator of the same options has seen."""
        self.iou += other.iou
        self.num_true_positives += other.num_true_positives
        self.num_false_negatives += other.num_false_negatives
        self.num_false_positives += other.num_false_positives

    def per_class(self) -> Dict[str, np.ndarray]:
        """``{"PQ": (C,), "SQ": (C,), "RQ": (C,)}`` in [0, 1]; 0 for classes that do not occur."""
        hits = self.num_true_positives
        weight = hits + 0.5 * self.num_false_negatives + 0.5 * self.num_false_positives
        segmentation = self.iou / np.maximum(hits, 1)
        recognition = np.where(weight > 0, hits / np.maximum(weight, 0.5), 0.0)
        return {"PQ": segmentation * recognition, "SQ": segmentation, "RQ": recognition}

    def result(self, classes: Optional[Collection[int]] = None) -> Dict[str, float]:
        """
        Means over the classes that occur in truth or prediction; NaN if none does.

        Args:
            classes: that the means are taken over; None for all.

        Returns:
            "PQ", "SQ", "RQ" in [0, 1], "TP", "FN", "FP".
        """
        counts = {
            "TP": self.num_true_positives,
            "FN": self.num_false_negatives,
            "FP": self.num_false_positives,
        }
        occurs = sum(counts.values()) > 0
        if classes is not None:
            occurs = occurs & np.isin(np.arange(self.num_classes), list(classes))
        values = {**self.per_class(), **counts}
        if not np.any(occurs):
            return {name: float("nan") for name in values}
        return {name: float(value[occurs].mean()) for name, value in values.items()}
