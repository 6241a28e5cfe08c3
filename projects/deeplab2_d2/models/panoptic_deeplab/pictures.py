"""Columns of a sheet: center heatmap and center offsets."""

from typing import List, Tuple, cast

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from ...data import PanopticTargetGenerator
from ...data.segment_map import SegmentTable
from ...postprocessing import Frames
from ...postprocessing.maps import crop_to_image
from ...structures import Prediction
from ...visualization import draw_heatmap, draw_map, draw_offsets
from ..image_batch import ImageBatch
from ..segmenter import Head, Sample


class CenterPictures:
    """
    What the heads predict beside classes; the targets are those of training at full size.

    Attributes:
        titles: names of the maps, in words. A subclass adds those of further heads.
    """

    titles: Tuple[str, ...] = ("center heatmap", "center offsets")

    def __init__(self, sigma: float):
        """
        Args:
            sigma: standard deviation of a center's Gaussian, in pixels of the image.
        """
        self._generate = PanopticTargetGenerator(ignore_label=-1, sigma=sigma)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CenterPictures":
        """As INPUT.DEEPLAB2.SIGMA says."""
        return cls(cfg.INPUT.DEEPLAB2.SIGMA)

    def draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[np.ndarray]:
        targets = self._generate(segment_map, segments)
        assert targets.center_heatmap is not None
        assert targets.center_offsets is not None and targets.offset_weights is not None
        return [
            draw_heatmap(targets.center_heatmap),
            draw_offsets(targets.center_offsets, mask=targets.offset_weights > 0),
        ]

    def draw_prediction(
        self, model: nn.Module, prediction: Prediction, images: ImageBatch, sample: Sample
    ) -> List[np.ndarray]:
        if "center_heatmap" not in prediction:
            return []
        frames = Frames(images.input_size, images.image_sizes[0], images.image_sizes[0])
        kinds = cast(Head, model.head).kinds
        names = [title.replace(" ", "_") for title in self.titles]
        return [draw_map(crop_to_image(prediction[n][0], frames), kinds[n]) for n in names]
