"""The config keys of the backbones: what all families share, and a node a family."""

from detectron2.config import CfgNode

from ..records import ConfigPart, register_config_part
from .family import PREFIX, default_node, families


def add_config(cfg: CfgNode) -> None:
    """Add ``MODEL.DEEPLAB2.BACKBONE``."""
    node = cfg.MODEL.DEEPLAB2.BACKBONE = CfgNode()
    # Name of a network: "resnet50", "resnet50_beta", "mobilenet_v3_small", ...
    node.NAME = "resnet50"
    # Ratio of the input's size to that of the last features: 8, 16 or 32.
    node.OUTPUT_STRIDE = 32
    # Factor on the channels (SWideRNet's w2).
    node.WIDTH_MULTIPLIER = 1.0
    for family in families():
        node[family.node] = default_node(family)


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that no backbone can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node = cfg.MODEL.DEEPLAB2.BACKBONE
    if node.OUTPUT_STRIDE not in (8, 16, 32):
        raise ValueError(
            f"config key {PREFIX}OUTPUT_STRIDE must be one of 8, 16, 32, got {node.OUTPUT_STRIDE!r}"
        )
    if node.WIDTH_MULTIPLIER <= 0:
        raise ValueError(
            f"config key {PREFIX}WIDTH_MULTIPLIER must be positive, got {node.WIDTH_MULTIPLIER!r}"
        )
    for family in families():
        family.check_config(node[family.node], f"{PREFIX}{family.node}.")


register_config_part(ConfigPart(add_config, check_config))
