"""The bound of a representation by centers: ground truth through the network's stride."""

from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor

from ...data import PanopticTargetGenerator
from ...data.segment_map import SegmentTable
from ...postprocessing import Frames, panoptic_from_centers
from ...structures import DatasetClasses
from ..stride_oracle import LOGIT, StrideOracle, batch_of_one

_IGNORE_LABEL = -1


class CenterStrideOracle(StrideOracle):
    """
    Targets (classes, center heatmap, offsets) at the heads' resolution as predictions.

    What is lost is what Panoptic-DeepLab loses with a perfect network: upsampling, keypoint
    suppression, grouping.
    """

    def __init__(
        self, classes: DatasetClasses, *, stride: int = 4, sigma: float = 8.0, **postprocessing: Any
    ):
        """
        Args:
            classes, stride: see :class:`StrideOracle`.
            sigma: standard deviation of the heatmap's Gaussians, in pixels of the image.
            postprocessing: further arguments of :func:`panoptic_from_centers`.
        """
        super().__init__(classes, stride=stride)
        self._postprocessing = postprocessing
        self._make_targets = PanopticTargetGenerator(
            ignore_label=_IGNORE_LABEL,
            # Whole: DeepLab2's window has a single peak only then.
            sigma=max(1, round(sigma / stride)),
            ignore_crowd_in_semantic=False,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "CenterStrideOracle":
        """
        The oracle with the post-processing of a config.

        Args:
            cfg: MODEL.DEEPLAB2.POSTPROCESSING and INPUT.DEEPLAB2.SIGMA.
            dataset_name: registered panoptic dataset.
        """
        node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
        return cls(
            DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name)),
            sigma=cfg.INPUT.DEEPLAB2.SIGMA,
            stuff_area_limit=node.STUFF_AREA_LIMIT,
            center_threshold=node.CENTER_THRESHOLD,
            nms_kernel=node.NMS_KERNEL,
            top_k_centers=node.TOP_K_CENTERS,
        )

    def segment(self, small_map: np.ndarray, segments: SegmentTable, frames: Frames) -> Tensor:
        targets = self._make_targets(small_map, segments)
        assert targets.center_heatmap is not None and targets.center_offsets is not None
        classes = np.arange(self.classes.num_classes)[:, None, None]
        segmentation = panoptic_from_centers(
            batch_of_one(LOGIT * (targets.sem_seg == classes)),
            batch_of_one(targets.center_heatmap[None]),
            batch_of_one(targets.center_offsets),
            frames,
            thing_ids=self.classes.thing_ids,
            label_divisor=self.classes.label_divisor,
            with_probability=False,
            **self._postprocessing,
        )
        return segmentation.panoptic_map[0]
