"""MaX-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone

from ...losses import MaXDeepLabLossOptions
from ..class_map import class_map_from_config
from ..model_metadata import metadata_from_config
from ..segmenter import Segmenter
from .criterion import MaXDeepLabCriterion
from .head import MaXDeepLabHead
from .inference import MaXDeepLabInference


@META_ARCH_REGISTRY.register()
class DeepLab2MaXDeepLab(Segmenter):
    """
    End-to-end panoptic segmentation: masks with classes from a mask transformer.

    Reference: MaX-DeepLab (arXiv:2012.00759); numbers as DeepLab2 computes them. The dual-path
    transformer is in the backbone. Training takes the targets of :class:`MaskTargetGenerator`.
    """

    inference: MaXDeepLabInference

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone = build_backbone(cfg)
        num_classes = class_map_from_config(cfg).num_classes
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": MaXDeepLabHead(cfg, backbone.output_shape(), num_classes=num_classes),
            "criterion": _criterion_from_config(cfg),
            "inference": MaXDeepLabInference.from_config(cfg),
        }


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
        ),
    )
