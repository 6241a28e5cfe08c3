"""Panoptic-DeepLab as a Detectron2 meta architecture."""

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Tuple, Type

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone

from ...heads import DecoderSpec, DenseHeads, HeadSpec
from ...layers import Norm
from ..segmenter import Segmenter
from .criterion import PanopticDeepLabCriterion
from .inference import PanopticDeepLabInference

# Attribute of each decoder to what it is made of, and the heads in their order.
HeadRows = Tuple[Dict[str, DecoderSpec], List[HeadSpec]]


@META_ARCH_REGISTRY.register()
class DeepLab2PanopticDeepLab(Segmenter):
    """
    Bottom-up panoptic segmentation from semantic logits, a center heatmap and center offsets.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3; numbers as DeepLab2 computes them.
    Training takes the targets of :class:`PanopticTargetGenerator`. Semantic-only models return
    ``sem_seg`` alone.

    Attributes:
        head_class: of the head; a subclass may have one of its own.
        new_parts: modules of the head that a subclass adds, so that weights without them are a
            start.
    """

    head_class: Type[DenseHeads] = DenseHeads
    new_parts: Tuple[str, ...] = ()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": cls.build_head(cfg, backbone.output_shape()),
            "criterion": PanopticDeepLabCriterion.from_config(cfg),
            "inference": PanopticDeepLabInference.from_config(cfg),
        }

    @classmethod
    def build_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> DenseHeads:
        """The heads on the features of a backbone."""
        decoders, heads = cls.describe_heads(cfg, input_shape)
        return cls.head_class(
            decoders, heads, input_shape, norm=Norm.from_config(cfg), new_parts=cls.new_parts
        )

    @classmethod
    def describe_heads(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> HeadRows:
        """Decoders and heads as data; a subclass with a further head adds its rows."""
        return describe_heads(cfg, input_shape)


def describe_heads(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> HeadRows:
    """
    The decoders of a config and the heads on them, as data.

    Their maps, at stride 4 of the network's input:

    - ``semantic_logits``: (N, C, h, w);
    - ``center_heatmap``: (N, 1, h, w), the regressed heatmap itself (no sigmoid), about 0 to 1;
      with LOSS.CENTER_ERROR "cross_entropy" a sigmoid of it;
    - ``center_offsets``: (N, 2, h, w), ``(dy, dx)`` from each pixel to the center of its instance,
      in pixels of this (h, w) map.

    A semantic-only model (INSTANCE_ENABLED False) has the first alone.
    """
    node = cfg.MODEL.DEEPLAB2
    decoders = {
        "semantic_decoder": DecoderSpec.from_config(cfg, node.SEMANTIC_DECODER, input_shape)
    }
    heads = [
        HeadSpec(
            "semantic_logits",
            "logits",
            out_channels=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            module="semantic_head",
            decoder="semantic_decoder",
            channels=node.SEMANTIC_HEAD.CHANNELS,
            conv_type=node.SEMANTIC_DECODER.CONV_TYPE,
        )
    ]
    if node.INSTANCE_ENABLED:
        name = "semantic_decoder"
        if node.INSTANCE_SHARES != "decoder":
            name = "instance_decoder"
            spec = DecoderSpec.from_config(cfg, node.INSTANCE_DECODER, input_shape)
            if node.INSTANCE_SHARES == "aspp":
                channels = decoders["semantic_decoder"].aspp_channels
                spec = replace(spec, aspp_of="semantic_decoder", aspp_channels=channels)
            decoders[name] = spec
        heads += _instance_heads(node, name)
    return decoders, heads


def _instance_heads(node: CfgNode, decoder: str) -> List[HeadSpec]:
    conv_type = node.INSTANCE_DECODER.CONV_TYPE
    is_probability = node.LOSS.CENTER_ERROR == "cross_entropy"
    return [
        HeadSpec(
            "center_heatmap",
            "heatmap",
            out_channels=1,
            module="center_head",
            decoder=decoder,
            channels=node.CENTER_HEAD.CHANNELS,
            conv_type=conv_type,
            value_range=(0.0, 1.0) if is_probability else None,
        ),
        HeadSpec(
            "center_offsets",
            "offset",
            out_channels=2,
            module="offset_head",
            decoder=decoder,
            channels=node.OFFSET_HEAD.CHANNELS,
            conv_type=conv_type,
        ),
    ]
