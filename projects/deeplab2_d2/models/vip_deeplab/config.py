"""Defaults of ViP-DeepLab's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import check_loss_term, head_node, require
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD


def add_config(cfg: CfgNode) -> None:
    """Add the keys of the further heads and their losses."""
    node = cfg.MODEL.DEEPLAB2
    # Offsets of the next frame's pixels to centers in this one; its decoder is as INSTANCE_DECODER.
    node.NEXT_OFFSET_HEAD = head_node(32)
    # Depth, from the semantic decoder's features at twice their resolution.
    node.DEPTH_HEAD = head_node(64)
    # Least and largest depth that can be predicted, in meters.
    node.DEPTH_HEAD.RANGE = [0.0, 88.0]
    # Factor on the absolute error of the next frame's offsets, in pixels of the input, and the part
    # of an image's pixels it keeps.
    node.LOSS.NEXT_OFFSET = [0.01, 1.0]
    # Factor on the depth loss (scale-invariant and relative error). 0 = videos without depth: none
    # is read, learnt or returned.
    node.LOSS.DEPTH_ERROR = 0.1


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    assert PANOPTIC_RECORD.check_config is not None
    PANOPTIC_RECORD.check_config(cfg)
    node = cfg.MODEL.DEEPLAB2
    check_loss_term(node.LOSS, "NEXT_OFFSET")
    require(
        node.LOSS.DEPTH_ERROR >= 0,
        "MODEL.DEEPLAB2.LOSS.DEPTH_ERROR",
        "at least 0",
        node.LOSS.DEPTH_ERROR,
    )
    bounds = node.DEPTH_HEAD.RANGE
    require(
        len(bounds) == 2 and 0 <= bounds[0] < bounds[1],
        "MODEL.DEEPLAB2.DEPTH_HEAD.RANGE",
        "two depths of at least 0, the smaller first",
        bounds,
    )
    require(
        node.INSTANCE_ENABLED,
        "MODEL.DEEPLAB2.INSTANCE_ENABLED",
        "True for a model of pairs of frames",
        node.INSTANCE_ENABLED,
    )
    require(
        node.INSTANCE_SHARES == "nothing",
        "MODEL.DEEPLAB2.INSTANCE_SHARES",
        "'nothing' for a model with a decoder of the next frame",
        node.INSTANCE_SHARES,
    )


def has_depth(cfg: CfgNode) -> bool:
    """Whether a config's model learns and returns depth."""
    return cfg.MODEL.DEEPLAB2.LOSS.DEPTH_ERROR > 0
