"""Panoptic-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict, Mapping, Sequence

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor

from ..heads import PanopticDeepLabHead
from .class_map import class_map_from_config
from .image_batch import ImageBatch
from .panoptic_deeplab_criterion import LossTerm, PanopticDeepLabCriterion, target_padding
from .panoptic_deeplab_inference import PanopticDeepLabInference
from .segmenter import PanopticSegmenter
from .target_batch import stack_targets


@META_ARCH_REGISTRY.register()
class DeepLab2PanopticDeepLab(PanopticSegmenter):
    """
    Bottom-up panoptic segmentation from semantic logits, a center heatmap and center offsets.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3; numbers as DeepLab2 computes them.
    Training takes the targets of :class:`PanopticDeepLabDatasetMapper`. Semantic-only models
    return ``sem_seg`` alone.
    """

    @configurable
    def __init__(
        self,
        *,
        head: PanopticDeepLabHead,
        criterion: PanopticDeepLabCriterion,
        inference: PanopticDeepLabInference,
        **options: Any,
    ):
        """
        Args:
            head, criterion, inference, options: see :class:`PanopticSegmenter`.
        """
        super().__init__(head=head, criterion=criterion, inference=inference, **options)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone = build_backbone(cfg)
        loss = cfg.MODEL.DEEPLAB2.LOSS
        return {
            "backbone": backbone,
            "head": PanopticDeepLabHead(cfg, backbone.output_shape()),
            "criterion": PanopticDeepLabCriterion(
                ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
                class_map=class_map_from_config(cfg),
                semantic=LossTerm(loss.SEMANTIC_WEIGHT, loss.SEMANTIC_TOP_K),
                center=LossTerm(loss.CENTER_WEIGHT, loss.CENTER_TOP_K),
                offset=LossTerm(loss.OFFSET_WEIGHT, loss.OFFSET_TOP_K),
                is_fused=loss.FUSED,
            ),
            "inference": PanopticDeepLabInference.from_config(cfg),
            "output_stride": cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "pad_to": tuple(cfg.TEST.DEEPLAB2.PAD_TO),
        }

    def _targets(
        self, batched_inputs: Sequence[Mapping[str, Any]], images: ImageBatch
    ) -> Dict[str, Tensor]:
        height, width = images.tensor.shape[-2:]
        padding = target_padding(
            self.criterion.ignore_label, with_instances=bool(self.head.has_instance_branch)
        )
        return stack_targets(
            batched_inputs, padding, size=(int(height), int(width)), device=self.device
        )
