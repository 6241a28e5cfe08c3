"""MaX-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict, Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor

from ..heads import MaXDeepLabHead
from ..losses import MaXDeepLabLossOptions
from .class_map import class_map_from_config
from .image_batch import ImageBatch
from .max_deeplab_criterion import PADDING, MaXDeepLabCriterion
from .max_deeplab_inference import MaXDeepLabInference
from .model_metadata import metadata_from_config
from .segmenter import PanopticSegmenter
from .target_batch import read_target, stack_targets


@META_ARCH_REGISTRY.register()
class DeepLab2MaXDeepLab(PanopticSegmenter):
    """
    End-to-end panoptic segmentation: masks with classes from a mask transformer.

    Reference: MaX-DeepLab (arXiv:2012.00759); numbers as DeepLab2 computes them. The dual-path
    transformer is in the backbone. Training takes the targets of
    :class:`MaXDeepLabDatasetMapper`.
    """

    @configurable
    def __init__(
        self,
        *,
        head: MaXDeepLabHead,
        criterion: MaXDeepLabCriterion,
        inference: MaXDeepLabInference,
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
        class_map = class_map_from_config(cfg)
        return {
            "backbone": backbone,
            "head": MaXDeepLabHead(cfg, backbone.output_shape(), num_classes=class_map.num_classes),
            "criterion": _criterion_from_config(cfg),
            "inference": MaXDeepLabInference.from_config(cfg),
            "output_stride": cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "pad_to": tuple(cfg.TEST.DEEPLAB2.PAD_TO),
        }

    def _losses(
        self,
        prediction: Any,
        batched_inputs: Sequence[Mapping[str, Any]],
        images: ImageBatch,
    ) -> Dict[str, Tensor]:
        losses, self.training_metrics = self.criterion(
            prediction,
            self._targets(batched_inputs, images),
            [str(sample.get("file_name", "no file_name")) for sample in batched_inputs],
        )
        return losses

    def _targets(
        self, batched_inputs: Sequence[Mapping[str, Any]], images: ImageBatch
    ) -> Dict[str, Tensor]:
        height, width = images.tensor.shape[-2:]
        padding = {"sem_seg": self.criterion.ignore_label, **PADDING}
        targets = stack_targets(
            batched_inputs, padding, size=(int(height), int(width)), device=self.device
        )
        classes = [read_target(sample, "thing_classes") for sample in batched_inputs]
        targets["thing_classes"] = torch.stack(classes).to(self.device, non_blocking=True)
        return targets


def _criterion_from_config(cfg: CfgNode) -> MaXDeepLabCriterion:
    loss = cfg.MODEL.DEEPLAB2.LOSS
    class_map = class_map_from_config(cfg)
    things = metadata_from_config(cfg).thing_ids
    return MaXDeepLabCriterion(
        ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        class_map=class_map,
        thing_ids=tuple(things),
        stuff_ids=tuple(c for c in range(class_map.num_classes) if c not in things),
        options=MaXDeepLabLossOptions(
            pq_style_weight=loss.PQ_STYLE_WEIGHT,
            alpha=loss.PQ_STYLE_ALPHA,
            similarity=loss.PQ_STYLE_SIMILARITY,
            unmatched_weight=loss.UNMATCHED_WEIGHT,
            surplus_masks=loss.SURPLUS_MASKS,
            mask_id_weight=loss.MASK_ID_WEIGHT,
            mask_id_top_k=loss.MASK_ID_TOP_K,
            instance_discrimination_weight=loss.INSTANCE_DISCRIMINATION_WEIGHT,
            instance_discrimination_top_k=loss.INSTANCE_DISCRIMINATION_TOP_K,
            temperature=loss.INSTANCE_DISCRIMINATION_TEMPERATURE,
            num_samples=loss.INSTANCE_DISCRIMINATION_SAMPLES,
            sample_temperature=loss.INSTANCE_DISCRIMINATION_SAMPLE_TEMPERATURE,
            semantic_weight=loss.SEMANTIC_WEIGHT,
            semantic_top_k=loss.SEMANTIC_TOP_K,
            form="lean" if loss.FUSED else "plain",
        ),
        use_ops=loss.FUSED,
    )
