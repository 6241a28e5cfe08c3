"""Errors of monocular depth."""

from typing import Dict, List

import numpy as np


class DepthMetrics:
    """
    Accumulates depth errors image by image, and averages over images.

    Reference: Eigen et al. (NeurIPS 2014) and Uhrig et al. (3DV 2017), as DeepLab2's metric
    computes them. Images without any known depth are left out (DeepLab2's result is NaN with one).
    """

    NAMES = ("SILog", "SqErrorRel", "AbsErrorRel", "DepthInlier")

    def __init__(self, *, inlier_threshold: float = 1.25):
        """
        Args:
            inlier_threshold: depths whose ratio is below count as right.
        """
        self.inlier_threshold = inlier_threshold
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._values: List[List[float]] = []

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """
        Args:
            truth: (H, W) float; where it is not positive nothing is known.
            prediction: (H, W) float, positive.

        Raises:
            ValueError: if the shapes differ.
        """
        if truth.shape != prediction.shape:
            raise ValueError(
                f"prediction must be {truth.shape}, as the truth, got {prediction.shape}"
            )
        is_known = truth > 0
        if not is_known.any():
            return
        truth = truth[is_known].astype(np.float64)
        prediction = prediction[is_known].astype(np.float64)
        error = np.log(prediction) - np.log(truth)
        relative = (truth - prediction) / truth
        ratio = np.maximum(truth / prediction, prediction / truth)
        self._values.append(
            [
                100.0 * float(np.sqrt(max(np.mean(error**2) - np.mean(error) ** 2, 0.0))),
                float(np.mean(relative**2)),
                float(np.mean(np.abs(relative))),
                float(np.mean(ratio < self.inlier_threshold)),
            ]
        )

    def merge(self, other: "DepthMetrics") -> None:
        """Add the images of another accumulator of the same options."""
        self._values += other._values

    def result(self) -> Dict[str, float]:
        """
        Returns:
            "SILog" (times 100), "SqErrorRel", "AbsErrorRel" and "DepthInlier" (in [0, 1]); NaN
            without any image.
        """
        if not self._values:
            return {name: float("nan") for name in self.NAMES}
        return dict(zip(self.NAMES, np.mean(self._values, axis=0).tolist()))
