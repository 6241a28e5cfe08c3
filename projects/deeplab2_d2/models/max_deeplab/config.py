"""Defaults of MaX-DeepLab's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import check_loss_term, head_node, require, require_one_of


def add_config(cfg: CfgNode) -> None:
    """Add the keys of heads, losses, post-processing and targets to nodes that exist."""
    _add_heads(cfg.MODEL.DEEPLAB2)
    _add_loss(cfg.MODEL.DEEPLAB2.LOSS)
    _add_postprocessing(cfg.MODEL.DEEPLAB2.POSTPROCESSING)
    _add_input(cfg.INPUT.DEEPLAB2)


def _add_heads(node: CfgNode) -> None:
    node.MAX_DEEPLAB = CfgNode()
    # Channels of mask features and of pixel features, whose product the masks are (the paper's D).
    node.MAX_DEEPLAB.PIXEL_CHANNELS = 128
    node.MAX_DEEPLAB.PIXEL_HEAD = head_node(256)
    # Of that head: "depthwise_separable_conv" or "standard_conv".
    node.MAX_DEEPLAB.PIXEL_CONV_TYPE = "depthwise_separable_conv"
    # Auxiliary semantic segmentation: SEMANTIC_HEAD and, if the backbone's semantic feature is not
    # at the masks' stride, SEMANTIC_DECODER.
    node.MAX_DEEPLAB.AUXILIARY_SEMANTIC = True


def _add_loss(node: CfgNode) -> None:
    # Factor on the PQ-style loss (0 leaves a term out), and the part of matched slots in it,
    # against unmatched ones (the paper's alpha).
    node.PQ_STYLE = [3.0, 0.75]
    # Similarity of masks in the matching: "product" of class probability and dice, or their "sum".
    node.PQ_STYLE_SIMILARITY = "product"
    # Weight of a slot without a mask in it: the "void_ratio", the part of the slot that lies on
    # void pixels, as DeepLab2 has it; "one" in the paper.
    node.UNMATCHED_WEIGHT = "void_ratio"
    # What becomes of an image with more masks than slots: those of least similarity stay
    # "unmatched" as in DeepLab2, the "largest" are kept and the others void, or an "error".
    node.SURPLUS_MASKS = "unmatched"
    # Factor on the mask-ID cross-entropy, and the part of an image's pixels it keeps: (0, 1].
    node.MASK_ID = [0.3, 1.0]
    # The same for instance discrimination, and what its similarities are divided by (tau).
    node.INSTANCE_DISCRIMINATION = [1.0, 1.0]
    node.INSTANCE_DISCRIMINATION_TEMPERATURE = 0.3
    # Pixels of an image that are drawn for it, by the inverse area of their masks to a power (at
    # least 0), and that power; 0 pixels: the paper's loss, on all pixels of things.
    node.INSTANCE_DISCRIMINATION_SAMPLING = [0, 0.6]


def _add_postprocessing(node: CfgNode) -> None:
    # "pixelwise" arg-max over the slots, or "maskwise", one mask after the other.
    node.MASK_MODE = "pixelwise"
    # Slots of which the class is less probable are void, and pixels of which the slot is no more
    # probable ("maskwise": at least 0.334).
    node.CONFIDENCE_THRESHOLDS = [0.7, 0.4]
    # Instances of fewer pixels become void. 0 = off.
    node.THING_AREA_LIMIT = 0
    # "maskwise": instead of the first of CONFIDENCE_THRESHOLDS, for things and for stuff.
    node.MASKWISE_CLASS_THRESHOLDS = [0.7, 0.7]
    # "maskwise": masks of which no more than this part is left by more confident ones are dropped.
    node.MASKWISE_OVERLAP_THRESHOLD = 0.5
    # "maskwise": masks are ordered by class confidence to the first power times mask confidence to
    # the second.
    node.MASKWISE_RANK_WEIGHTS = [1.0, 0.0]


def _add_input(node: CfgNode) -> None:
    # Most things of an image.
    node.MAX_THINGS = 128


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    prefix = "MODEL.DEEPLAB2."
    node = cfg.MODEL.DEEPLAB2.MAX_DEEPLAB
    channels = node.PIXEL_CHANNELS
    require(channels >= 1, prefix + "MAX_DEEPLAB.PIXEL_CHANNELS", "at least 1", channels)
    conv_types = ("depthwise_separable_conv", "standard_conv")
    require_one_of(prefix + "MAX_DEEPLAB.PIXEL_CONV_TYPE", node.PIXEL_CONV_TYPE, conv_types)
    _check_loss(cfg.MODEL.DEEPLAB2.LOSS, prefix + "LOSS.")
    _check_some_loss(cfg)
    _check_postprocessing(cfg.MODEL.DEEPLAB2.POSTPROCESSING, prefix + "POSTPROCESSING.")
    max_things = cfg.INPUT.DEEPLAB2.MAX_THINGS
    require(max_things >= 1, "INPUT.DEEPLAB2.MAX_THINGS", "at least 1", max_things)


def _check_loss(node: CfgNode, prefix: str) -> None:
    for name in ("MASK_ID", "INSTANCE_DISCRIMINATION"):
        check_loss_term(node, name)
    pq_style = list(node.PQ_STYLE)
    require(
        len(pq_style) == 2 and pq_style[0] >= 0 and 0.0 <= pq_style[1] <= 1.0,
        prefix + "PQ_STYLE",
        "a weight of at least 0 and a part in [0, 1]",
        pq_style,
    )
    require_one_of(prefix + "PQ_STYLE_SIMILARITY", node.PQ_STYLE_SIMILARITY, ("product", "sum"))
    require_one_of(prefix + "UNMATCHED_WEIGHT", node.UNMATCHED_WEIGHT, ("void_ratio", "one"))
    require_one_of(prefix + "SURPLUS_MASKS", node.SURPLUS_MASKS, ("unmatched", "largest", "error"))
    temperature = node.INSTANCE_DISCRIMINATION_TEMPERATURE
    require(
        temperature > 0, prefix + "INSTANCE_DISCRIMINATION_TEMPERATURE", "positive", temperature
    )
    sampling = list(node.INSTANCE_DISCRIMINATION_SAMPLING)
    require(
        len(sampling) == 2 and isinstance(sampling[0], int) and min(sampling) >= 0,
        prefix + "INSTANCE_DISCRIMINATION_SAMPLING",
        "a number of pixels and a power, both at least 0",
        sampling,
    )


def _check_some_loss(cfg: CfgNode) -> None:
    node = cfg.MODEL.DEEPLAB2
    weights = [node.LOSS[n][0] for n in ("PQ_STYLE", "MASK_ID", "INSTANCE_DISCRIMINATION")]
    weights.append(node.LOSS.SEMANTIC[0] if node.MAX_DEEPLAB.AUXILIARY_SEMANTIC else 0.0)
    require(
        any(weights),
        "MODEL.DEEPLAB2.LOSS.PQ_STYLE",
        "of a positive weight where all other losses have a weight of 0",
        list(node.LOSS.PQ_STYLE),
    )


def _check_postprocessing(node: CfgNode, prefix: str) -> None:
    require_one_of(prefix + "MASK_MODE", node.MASK_MODE, ("pixelwise", "maskwise"))
    for name in ("CONFIDENCE_THRESHOLDS", "MASKWISE_CLASS_THRESHOLDS"):
        pair = list(node[name])
        holds = len(pair) == 2 and all(0.0 <= value <= 1.0 for value in pair)
        require(holds, prefix + name, "two numbers in [0, 1]", pair)
    overlap = node.MASKWISE_OVERLAP_THRESHOLD
    require(0.0 <= overlap <= 1.0, prefix + "MASKWISE_OVERLAP_THRESHOLD", "in [0, 1]", overlap)
    limit = node.THING_AREA_LIMIT
    require(limit >= 0, prefix + "THING_AREA_LIMIT", "at least 0", limit)
    weights = list(node.MASKWISE_RANK_WEIGHTS)
    require(
        len(weights) == 2 and min(weights) >= 0,
        prefix + "MASKWISE_RANK_WEIGHTS",
        "two numbers of at least 0",
        weights,
    )
    require(
        node.MASK_MODE == "pixelwise" or node.CONFIDENCE_THRESHOLDS[1] >= 0.334,
        prefix + "CONFIDENCE_THRESHOLDS",
        "of a second of at least 0.334 where MASK_MODE is 'maskwise'",
        list(node.CONFIDENCE_THRESHOLDS),
    )
