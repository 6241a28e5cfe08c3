"""Defaults of Motion-DeepLab's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import check_loss_term, head_node, require
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD


def add_config(cfg: CfgNode) -> None:
    """Add the keys of the motion head, its loss and of tracking."""
    node = cfg.MODEL.DEEPLAB2
    node.MOTION_HEAD = head_node(32)
    # Factor on the absolute error of the offsets to the frame before, in pixels of the input, and
    # the part of an image's pixels it keeps.
    node.LOSS.MOTION = [0.01, 1.0]
    node.TRACKING = CfgNode()
    # A track ends when it has not been seen for this many frames, the last one counted: 7 in
    # DeepLab2.
    node.TRACKING.KEEP_FRAMES = 7
    # A frame that equals the one before begins a new video, as in DeepLab2. A paused video then
    # loses its tracks.
    node.TRACKING.RESET_ON_EQUAL_FRAMES = False


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    assert PANOPTIC_RECORD.check_config is not None
    PANOPTIC_RECORD.check_config(cfg)
    node = cfg.MODEL.DEEPLAB2
    check_loss_term(node.LOSS, "MOTION")
    keep_frames = node.TRACKING.KEEP_FRAMES
    require(keep_frames >= 1, "MODEL.DEEPLAB2.TRACKING.KEEP_FRAMES", "at least 1", keep_frames)
    require(
        node.INSTANCE_ENABLED,
        "MODEL.DEEPLAB2.INSTANCE_ENABLED",
        "True for a model that tracks",
        node.INSTANCE_ENABLED,
    )
    sigma = cfg.INPUT.DEEPLAB2.SIGMA
    rule = "a whole number of at least 1 for a model that draws centers of the frame before"
    require(sigma >= 1 and sigma == round(sigma), "INPUT.DEEPLAB2.SIGMA", rule, sigma)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        values = cfg.MODEL[key]
        rule = "7 numbers: of a frame, the frame before, and the heatmap of its centers"
        require(len(values) == 7, f"MODEL.{key}", rule, values)
