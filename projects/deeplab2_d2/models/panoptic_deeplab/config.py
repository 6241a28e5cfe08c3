"""Defaults of Panoptic-DeepLab's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import (
    check_decoder,
    check_loss_term,
    decoder_node,
    head_node,
    require,
    require_one_of,
)
from .criterion import CENTER_ERRORS


def add_config(cfg: CfgNode) -> None:
    """Add the keys of the instance branch, its losses, post-processing and targets."""
    node = cfg.MODEL.DEEPLAB2
    # False: semantic segmentation only, no instance decoder and no instance heads.
    node.INSTANCE_ENABLED = True
    node.INSTANCE_DECODER = decoder_node(128, [["res3", 32], ["res2", 16]])
    # What the instance branch has of the semantic one, as in the paper's ablation: "nothing", its
    # "aspp", or its whole "decoder" (then INSTANCE_DECODER describes the heads' convolution alone).
    node.INSTANCE_SHARES = "nothing"
    node.CENTER_HEAD = head_node(32)
    node.OFFSET_HEAD = head_node(32)
    # Factor on the error of the center heatmap, and the part of an image's pixels it keeps.
    node.LOSS.CENTER = [200.0, 1.0]
    # That error: "squared", or "cross_entropy" of a heatmap that a sigmoid brings between 0 and 1.
    node.LOSS.CENTER_ERROR = "squared"
    # The same for the absolute error of the center offsets, in pixels of the input. The released
    # configs say 0.01, the paper 0.25.
    node.LOSS.OFFSET = [0.01, 1.0]
    # Heatmap values below are no center.
    node.POSTPROCESSING.CENTER_THRESHOLD = 0.1
    # Side of the max-pooling window that keeps local maxima, in pixels of the network's input.
    node.POSTPROCESSING.NMS_KERNEL = 13
    # Most centers kept in an image, best first; 0 or less keeps all.
    node.POSTPROCESSING.TOP_K_CENTERS = 400
    # Standard deviation of a center's Gaussian, in pixels of the crop.
    cfg.INPUT.DEEPLAB2.SIGMA = 8.0


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node, prefix = cfg.MODEL.DEEPLAB2, "MODEL.DEEPLAB2."
    check_decoder(node.INSTANCE_DECODER, prefix + "INSTANCE_DECODER.")
    shared = ("nothing", "aspp", "decoder")
    require_one_of(prefix + "INSTANCE_SHARES", node.INSTANCE_SHARES, shared)
    for name in ("CENTER", "OFFSET"):
        check_loss_term(node.LOSS, name)
    errors = tuple(CENTER_ERRORS)
    require_one_of(prefix + "LOSS.CENTER_ERROR", node.LOSS.CENTER_ERROR, errors)
    kernel = node.POSTPROCESSING.NMS_KERNEL
    require(kernel >= 1, prefix + "POSTPROCESSING.NMS_KERNEL", "at least 1", kernel)
    sigma = cfg.INPUT.DEEPLAB2.SIGMA
    require(sigma > 0, "INPUT.DEEPLAB2.SIGMA", "positive", sigma)
