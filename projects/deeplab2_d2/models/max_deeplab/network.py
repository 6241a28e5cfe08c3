"""MaX-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone

from ...backbones import EndpointBackbone
from ..class_map import class_map_from_config
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
        if not isinstance(backbone, EndpointBackbone) or backbone.memory_shape is None:
            raise ValueError(
                "MaX-DeepLab must have a backbone with a memory path (config key "
                f"MODEL.DEEPLAB2.BACKBONE.NAME), such as max_deeplab_s, got "
                f"{type(backbone).__name__}"
            )
        memory_shape = backbone.return_memory()
        num_classes = class_map_from_config(cfg).num_classes
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": MaXDeepLabHead(
                cfg, backbone.output_shape(), memory_shape, num_classes=num_classes
            ),
            "criterion": MaXDeepLabCriterion.from_config(cfg),
            "inference": MaXDeepLabInference.from_config(cfg),
        }
