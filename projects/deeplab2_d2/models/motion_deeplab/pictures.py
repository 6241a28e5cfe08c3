"""Columns of a sheet: those of Panoptic-DeepLab, and offsets to the frame before."""

from typing import List

import numpy as np

from ...data.segment_map import SegmentTable
from ..panoptic_deeplab import CenterPictures


class MotionPictures(CenterPictures):
    """A sheet's truth is of single frames: that column of motion is empty."""

    titles = CenterPictures.titles + ("frame offsets",)

    def draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[np.ndarray]:
        drawn = super().draw_targets(segment_map, segments)
        return [*drawn, np.full_like(drawn[-1], 255)]
