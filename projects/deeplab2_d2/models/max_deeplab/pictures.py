"""The column of a sheet that shows which slot has which pixel."""

from typing import List, cast

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from ...data.mask_targets import thing_id_targets
from ...data.segment_map import SegmentTable
from ...structures import Prediction
from ...visualization import draw_semantic, make_class_colors
from ..image_batch import ImageBatch
from ..parts import Sample
from .network import DeepLab2MaXDeepLab


class SlotPictures:
    """Numbered things of the ground truth, slots of the prediction."""

    titles = ("slots",)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SlotPictures":
        """No key matters."""
        return cls()

    def draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[np.ndarray]:
        numbers, _ = thing_id_targets(segment_map, segments, max_things=len(segments))
        return [draw_semantic(numbers, make_class_colors(len(segments)))]

    def draw_prediction(
        self, model: nn.Module, prediction: Prediction, images: ImageBatch, sample: Sample
    ) -> List[np.ndarray]:
        size = images.output_size(sample, 0)
        inference = cast(DeepLab2MaXDeepLab, model).inference
        result = inference.segment(prediction, images, 0, size)
        colors = make_class_colors(prediction["mask_logits"].shape[1])
        return [draw_semantic(result.slot_map[0], colors)]
