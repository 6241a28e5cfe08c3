"""The config nodes of networks of other libraries: MODEL.DEEPLAB2.TIMM and .TORCHVISION."""

from detectron2.config import CfgNode

from ...records import ConfigPart, register_config_part

# Node below MODEL.DEEPLAB2 to the beginning of the names of its builders.
NODES = {"TIMM": "build_deeplab2_timm_", "TORCHVISION": "build_deeplab2_torchvision_"}


def add_config(cfg: CfgNode) -> None:
    """Add both nodes."""
    timm = cfg.MODEL.DEEPLAB2.TIMM = CfgNode()
    # One of timm's names, with or without its tag: "resnet50", "resnet50.a1_in1k", ...
    timm.NAME = "resnet50"
    # Features that are computed; [] = all that the network has.
    timm.OUT_FEATURES = []
    # Stochastic depth: probability to keep the last block in training; it falls linearly from 1.
    timm.DROP_PATH = 1.0
    # Compute the stages' inner values again in backward, which saves memory.
    timm.CHECKPOINT = False
    # Channels of each feature of the pyramid on a plain vision transformer.
    timm.PYRAMID_CHANNELS = 256
    torchvision = cfg.MODEL.DEEPLAB2.TORCHVISION = CfgNode()
    # One of torchvision's names of classification networks: "resnet50", "regnet_y_400mf", ...
    torchvision.NAME = "resnet50"
    # Features that are computed; [] = all that the network has.
    torchvision.OUT_FEATURES = []


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that no network can have, and keys of a library whose networks are not built.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node, prefix = cfg.MODEL.DEEPLAB2.TIMM, "MODEL.DEEPLAB2.TIMM."
    if not 0.0 < node.DROP_PATH <= 1.0:
        raise ValueError(f"config key {prefix}DROP_PATH must be in (0, 1], got {node.DROP_PATH!r}")
    if not isinstance(node.CHECKPOINT, bool):
        raise ValueError(f"config key {prefix}CHECKPOINT must be a bool, got {node.CHECKPOINT!r}")
    if node.PYRAMID_CHANNELS < 1:
        raise ValueError(
            f"config key {prefix}PYRAMID_CHANNELS must be positive, got {node.PYRAMID_CHANNELS!r}"
        )
    defaults = CfgNode({"MODEL": {"DEEPLAB2": {}}})
    add_config(defaults)
    for name, builders in NODES.items():
        if cfg.MODEL.BACKBONE.NAME.startswith(builders):
            continue
        for key, default in defaults.MODEL.DEEPLAB2[name].items():
            value = cfg.MODEL.DEEPLAB2[name][key]
            if value != default:
                raise ValueError(
                    f"config key MODEL.DEEPLAB2.{name}.{key} must be {default!r} where "
                    f"MODEL.BACKBONE.NAME is not one of {builders}*, got {value!r}"
                )


register_config_part(ConfigPart(add_config, check_config))
