"""Panoptic quality from label maps alone, for images and for pieces of videos."""

from typing import Dict, Sequence, Tuple

import numpy as np


class PanopticQuality:
    """
    Accumulates panoptic quality image by image, without files.

    Reference: Panoptic Segmentation (arXiv:1801.00868), Sec. 4, as DeepLab2's metric computes it.
    Unlike panopticapi it knows no crowds, so that its scores are a little higher: use
    :class:`PanopticQualityEvaluator` for numbers to publish.
    """

    def __init__(self, *, num_classes: int, ignore_label: int, label_divisor: int):
        """
        Args:
            num_classes: number of classes, ``ignore_label`` included if it is among them.
            ignore_label: class that is not evaluated.
            label_divisor: label = class * label_divisor + instance.
        """
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.label_divisor = label_divisor
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.iou, self.num_true_positives, self.num_false_negatives, self.num_false_positives = (
            np.zeros(self.num_classes) for _ in range(4)
        )

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """
        Args:
            truth, prediction: integer panoptic labels of one shape. Unlabeled pixels of the truth
                have the label ``ignore_label * label_divisor``; void pixels of the prediction have
                the class ``ignore_label`` or are negative.

        Raises:
            ValueError: if the shapes differ.
        """
        if truth.shape != prediction.shape:
            raise ValueError(
                f"prediction must be {truth.shape}, as the truth, got {prediction.shape}"
            )
        void = self.ignore_label * self.label_divisor
        prediction = np.where(prediction < 0, void, prediction)
        true_labels, true_index, true_area = _unique(truth)
        labels, index, area = _unique(prediction)
        overlap = np.zeros((len(true_labels), len(labels)))
        np.add.at(overlap, (true_index, index), 1)
        on_void = overlap[true_labels == void].sum(0)
        true_class, predicted_class = (
            true_labels // self.label_divisor,
            labels // self.label_divisor,
        )
        union = true_area[:, None] + area[None] - overlap - on_void[None]
        comparable = (true_class[:, None] == predicted_class) & (
            predicted_class != self.ignore_label
        )
        iou = np.where(comparable, overlap / np.maximum(union, 1), 0.0)
        # More than half: at most one partner for each segment.
        matched = iou > 0.5
        rows, columns = np.nonzero(matched)
        np.add.at(self.iou, true_class[rows], iou[rows, columns])
        np.add.at(self.num_true_positives, true_class[rows], 1)
        missed = ~matched.any(1) & (true_class != self.ignore_label)
        np.add.at(self.num_false_negatives, true_class[missed], 1)
        wrong = ~matched.any(0) & (predicted_class != self.ignore_label) & (on_void <= 0.5 * area)
        np.add.at(self.num_false_positives, predicted_class[wrong], 1)

    def add_video(self, truth: Sequence[np.ndarray], prediction: Sequence[np.ndarray]) -> None:
        """
        Score tubes: a segment is all its pixels in some successive frames.

        Reference: Kim et al., Video panoptic segmentation, CVPR 2020, for one window of frames.

        Args:
            truth, prediction: the frames, each as for :meth:`add`.
        """
        self.add(np.concatenate(list(truth)), np.concatenate(list(prediction)))

    def per_class(self) -> Dict[str, np.ndarray]:
        """``{"PQ": (C,), "SQ": (C,), "RQ": (C,)}`` in [0, 1]; 0 for classes that do not occur."""
        hits = self.num_true_positives
        weight = hits + 0.5 * self.num_false_negatives + 0.5 * self.num_false_positives
        segmentation = self.iou / np.maximum(hits, 1)
        recognition = np.where(weight > 0, hits / np.maximum(weight, 0.5), 0.0)
        return {"PQ": segmentation * recognition, "SQ": segmentation, "RQ": recognition}

    def result(self) -> Dict[str, float]:
        """
        Means over the classes that occur in truth or prediction; NaN if none does.

        Returns:
            "PQ", "SQ", "RQ" in [0, 1], "TP", "FN", "FP".
        """
        counts = {
            "TP": self.num_true_positives,
            "FN": self.num_false_negatives,
            "FP": self.num_false_positives,
        }
        occurs = sum(counts.values()) > 0
        values = {**self.per_class(), **counts}
        if not np.any(occurs):
            return {name: float("nan") for name in values}
        return {name: float(value[occurs].mean()) for name, value in values.items()}


def _unique(labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct labels, the position of each pixel's among them, their areas."""
    values, index, area = np.unique(labels, return_inverse=True, return_counts=True)
    return values.astype(np.int64), index.ravel(), area
