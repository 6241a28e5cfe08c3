"""The bound of a representation by mask slots: ground truth through the network's stride."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor

from ...data.segment_map import SegmentTable
from ...postprocessing import Frames, SlotOptions, panoptic_from_mask_slots
from ...structures import DatasetClasses
from ..stride_oracle import LOGIT, StrideOracle, batch_of_one
from .inference import slot_options_from_config


class SlotStrideOracle(StrideOracle):
    """Every segment has a slot, its mask at the heads' resolution."""

    def __init__(
        self, classes: DatasetClasses, *, stride: int = 4, options: SlotOptions = SlotOptions()
    ):
        """
        Args:
            classes, stride: see :class:`StrideOracle`.
            options: of :func:`panoptic_from_mask_slots`.
        """
        super().__init__(classes, stride=stride)
        self._options = options

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "SlotStrideOracle":
        """
        Args:
            cfg: MODEL.DEEPLAB2.POSTPROCESSING.
            dataset_name: registered panoptic dataset.
        """
        return cls(
            DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name)),
            options=slot_options_from_config(cfg),
        )

    def segment(self, small_map: np.ndarray, segments: SegmentTable, frames: Frames) -> Tensor:
        # The first slot has what is not labeled; its class is void.
        slots = np.arange(len(segments) + 1)
        num_classes = self.classes.num_classes
        classes = np.concatenate([[num_classes], segments.category_ids])
        result = panoptic_from_mask_slots(
            batch_of_one(LOGIT * (small_map == slots[:, None, None])),
            batch_of_one(LOGIT * (classes[:, None] == np.arange(num_classes + 1))),
            frames,
            thing_ids=self.classes.thing_ids,
            label_divisor=self.classes.label_divisor,
            channel_to_class=range(num_classes),
            options=self._options,
        )
        return result.panoptic_map[0]
