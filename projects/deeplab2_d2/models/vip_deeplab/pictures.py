"""Columns of a sheet: those of Panoptic-DeepLab, and depth."""

from typing import List

import numpy as np

from ...data.segment_map import SegmentTable
from ..panoptic_deeplab import CenterPictures


class DepthPictures(CenterPictures):
    """The sheet's truth is of segments alone: that column of depth is empty."""

    titles = CenterPictures.titles + ("depth",)

    def draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[np.ndarray]:
        drawn = super().draw_targets(segment_map, segments)
        return [*drawn, np.full_like(drawn[-1], 255)]
