"""Video panoptic quality: panoptic quality of the tubes in windows of successive frames."""

from collections import deque
from typing import Collection, Deque, Dict, Sequence, Tuple

import numpy as np

from .label_pairs import LabelPairs, count_label_pairs, join_label_pairs
from .panoptic_accumulator import PanopticQuality


class VideoPanopticQuality:
    """
    Accumulates VPQ-k of one sequence, or of several by :meth:`merge`, for several lengths k.

    A segment of a window is a label's pixels in k successive frames. Their overlaps are the sums of
    those of the frames, so that each frame is looked at once, however many windows it is in.

    Reference: Kim et al., Video panoptic segmentation, CVPR 2020; means over the classes that
    occur, as in DeepLab2's metric.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        crowd_ids: Collection[int] = (),
        windows: Sequence[int] = (1, 2, 3, 4),
    ):
        """
        Args:
            num_classes, ignore_label, label_divisor, crowd_ids: see :class:`PanopticQuality`; the
                instance is the identity over the sequence.
            windows: lengths k, in frames.

        Raises:
            ValueError: if there is no length, one is below 1, or one is listed twice.
        """
        if not windows or min(windows) < 1 or len(set(windows)) < len(windows):
            raise ValueError(f"windows must be different lengths of 1 or more, got {windows}")
        self.qualities: Dict[int, PanopticQuality] = {
            length: PanopticQuality(
                num_classes=num_classes,
                ignore_label=ignore_label,
                label_divisor=label_divisor,
                crowd_ids=crowd_ids,
            )
            for length in windows
        }
        self._recent: Deque[LabelPairs] = deque(maxlen=max(windows))

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """
        Add the next frame of the sequence.

        Args:
            truth, prediction: see :meth:`PanopticQuality.add`.
        """
        self.add_pairs(count_label_pairs(truth, prediction))

    def add_pairs(self, pairs: LabelPairs) -> None:
        """As :meth:`add`, by what :func:`count_label_pairs` found in the frame."""
        self._recent.append(pairs)
        frames = list(self._recent)
        for length, quality in self.qualities.items():
            if len(frames) >= length:
                quality.add_pairs(join_label_pairs(frames[-length:]))

    def merge(self, other: "VideoPanopticQuality") -> None:
        """Add the windows of another accumulator of the same options; no window spans both."""
        for length, quality in self.qualities.items():
            quality.merge(other.qualities[length])
        self._recent.clear()

    def result(self, thing_ids: Collection[int]) -> Dict[Tuple[int, str], float]:
        """
        Args:
            thing_ids: classes with instances.

        Returns:
            by length and part ("" for all classes, "_th" things, "_st" stuff), the quality in
            [0, 1]; NaN where no class occurs, as without a window of that length.
        """
        scores: Dict[Tuple[int, str], float] = {}
        for length, quality in self.qualities.items():
            stuff_ids = set(range(quality.num_classes)) - set(thing_ids)
            for part, classes in (("", None), ("_th", thing_ids), ("_st", stuff_ids)):
                scores[length, part] = quality.result(classes)["PQ"]
        return scores
