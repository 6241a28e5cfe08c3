"""Columns of a sheet: center heatmap and center offsets."""

from typing import List, Sequence, Tuple, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...data import PanopticTargetGenerator
from ...data.segment_map import SegmentTable
from ...postprocessing import Frames
from ...postprocessing.maps import crop_to_image, resize_map
from ...structures import Prediction
from ...visualization import draw_heatmap, draw_map, draw_offsets
from ..class_map import class_map_from_config
from ..image_batch import ImageBatch
from ..model_metadata import metadata_from_config
from ..parts import Head, Sample


class CenterPictures:
    """
    What the heads predict beside classes; the targets are those of training at full size.

    Attributes:
        titles: names of the maps, in words. A subclass adds those of further heads.
    """

    titles: Tuple[str, ...] = ("center heatmap", "center offsets")

    def __init__(self, sigma: float, thing_channels: Sequence[int]):
        """
        Args:
            sigma: standard deviation of a center's Gaussian, in pixels of the image.
            thing_channels: those of the semantic logits whose classes have instances.
        """
        self._generate = PanopticTargetGenerator(ignore_label=-1, sigma=sigma)
        self._thing_channels = tuple(thing_channels)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CenterPictures":
        """As INPUT.DEEPLAB2.SIGMA and the metadata of the dataset say."""
        has_instances = cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED
        thing_ids = metadata_from_config(cfg, needs_things=has_instances).thing_ids
        channels = class_map_from_config(cfg).channel_to_class
        things = [channel for channel, k in enumerate(channels) if k in thing_ids]
        return cls(cfg.INPUT.DEEPLAB2.SIGMA, things)

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
        drawn = []
        for name in names:
            maps = prediction[name]
            mask = None
            if kinds[name] == "offset":
                # Those of stuff have no meaning: nothing teaches them.
                mask = crop_to_image(self._is_thing(prediction, maps), frames)
            drawn.append(draw_map(crop_to_image(maps[0], frames), kinds[name], mask=mask))
        return drawn

    def _is_thing(self, prediction: Prediction, maps: Tensor) -> Tensor:
        """
        Where the likeliest class of the first image has instances.

        Args:
            maps: (N, C, h, w), whose grid is wanted.

        Returns:
            (h, w) bool.
        """
        size = (maps.shape[-2], maps.shape[-1])
        logits = resize_map(prediction["semantic_logits"].float(), "logits", size)
        channels = logits[0].argmax(dim=0)
        return torch.isin(channels, channels.new_tensor(self._thing_channels))
