"""From a config to a backbone."""

from typing import Any, Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY

from ..layers import Norm
from .endpoints import EndpointBackbone
from .family import (
    PREFIX,
    SharedOptions,
    changed_keys,
    default_node,
    families,
    find_family,
    look_up,
)
from .freezing import freeze_stages


@BACKBONE_REGISTRY.register()
def build_deeplab2_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> EndpointBackbone:
    """
    The backbone that ``MODEL.DEEPLAB2.BACKBONE`` describes; see :func:`freeze_stages`, too.

    Raises:
        ValueError: for a name or options that no backbone has, or a key of another family.
    """
    node = cfg.MODEL.DEEPLAB2.BACKBONE
    height, width = cfg.INPUT.CROP.SIZE
    options = SharedOptions(
        norm=Norm.from_config(cfg),
        in_channels=input_shape.channels,
        output_stride=node.OUTPUT_STRIDE,
        width_multiplier=node.WIDTH_MULTIPLIER,
        image_size=(int(height), int(width)),
    )
    family = find_family(node.NAME)
    for other in families():
        if other is not family:
            _refuse_changes(node, other.node, default_node(other), node.NAME)
    backbone = family.build(node.NAME, node[family.node], options)
    freeze_stages(backbone, cfg.MODEL.BACKBONE.FREEZE_AT, in_channels=input_shape.channels)
    return backbone


def build_backbone_by_name(
    name: str,
    *,
    norm: Norm,
    in_channels: int = 3,
    output_stride: int = 32,
    width_multiplier: float = 1.0,
    **keys: Any,
) -> EndpointBackbone:
    """
    A named backbone.

    Args:
        name: one of :func:`backbone_names`.
        norm, in_channels, output_stride, width_multiplier: see :class:`SharedOptions`.
        keys: of the family's config node, ``__`` for a dot: ``ATTENTION__SPAN=65``.

    Raises:
        ValueError: for a name that no family has.
    """
    family = find_family(name)
    node = default_node(family)
    for key, value in keys.items():
        # Lists of LazyConfigs are OmegaConf's, and no values of a config.
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        node.merge_from_list([key.replace("__", "."), list(value) if is_list else value])
    options = SharedOptions(norm, in_channels, output_stride, width_multiplier)
    return family.build(name, node, options)


def refuse_families(cfg: CfgNode, title: str) -> None:
    """
    Refuse keys of our families for a network of none.

    Args:
        title: of the network, for the message.

    Raises:
        ValueError: naming the key.
    """
    node = cfg.MODEL.DEEPLAB2.BACKBONE
    if node.WIDTH_MULTIPLIER != 1.0:
        raise ValueError(
            f"{PREFIX}WIDTH_MULTIPLIER must be 1.0 for {title}, got {node.WIDTH_MULTIPLIER!r}"
        )
    for family in families():
        _refuse_changes(node, family.node, default_node(family), title)


def _refuse_changes(node: CfgNode, name: str, defaults: CfgNode, title: str) -> None:
    for key in changed_keys(node[name], defaults):
        raise ValueError(
            f"{PREFIX}{name}.{key} must be {look_up(defaults, key)!r} for {title}, which is "
            f"of another family, got {look_up(node[name], key)!r}"
        )
