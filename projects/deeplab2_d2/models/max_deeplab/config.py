"""Defaults of MaX-DeepLab's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import check_head, head_node, require, require_one_of


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
    # Auxiliary semantic segmentation: SEMANTIC_HEAD and, if the backbone's semantic feature is not
    # at the masks' stride, SEMANTIC_DECODER.
    node.MAX_DEEPLAB.AUXILIARY_SEMANTIC = True


def _add_loss(node: CfgNode) -> None:
    # Factor on the PQ-style loss; 0 leaves a term out.
    node.PQ_STYLE_WEIGHT = 3.0
    # Part of matched slots in the PQ-style loss, against unmatched ones (the paper's alpha).
    node.PQ_STYLE_ALPHA = 0.75
    # Similarity of masks in the matching: "product" of class probability and dice, or their "sum".
    node.PQ_STYLE_SIMILARITY = "product"
    # Weight of a slot without a mask in it: the "void_ratio", the part of the slot that lies on
    # void pixels, as DeepLab2 has it; "one" in the paper.
    node.UNMATCHED_WEIGHT = "void_ratio"
    # What becomes of an image with more masks than slots: those of least similarity stay
    # "unmatched" as in DeepLab2, the "largest" are kept and the others void, or an "error".
    node.SURPLUS_MASKS = "unmatched"
    # Factor on the mask-ID cross-entropy, and the part of an image's pixels it keeps: (0, 1].
    node.MASK_ID_WEIGHT = 0.3
    node.MASK_ID_TOP_K = 1.0
    # The same for instance discrimination, and what its similarities are divided by (tau).
    node.INSTANCE_DISCRIMINATION_WEIGHT = 1.0
    node.INSTANCE_DISCRIMINATION_TOP_K = 1.0
    node.INSTANCE_DISCRIMINATION_TEMPERATURE = 0.3
    # Pixels of an image that are drawn for it, by the inverse area of their masks to the power of
    # SAMPLE_TEMPERATURE (at least 0); 0: the paper's loss, on all pixels of things.
    node.INSTANCE_DISCRIMINATION_SAMPLES = 0
    node.INSTANCE_DISCRIMINATION_SAMPLE_TEMPERATURE = 0.6


def _add_postprocessing(node: CfgNode) -> None:
    # "pixelwise" arg-max over the slots, or "maskwise", one mask after the other.
    node.MASK_MODE = "pixelwise"
    # Slots of which the class is less probable are void.
    node.CLASS_CONFIDENCE_THRESHOLD = 0.7
    # Pixels of which the slot is no more probable are void; "maskwise": at least 0.334.
    node.PIXEL_CONFIDENCE_THRESHOLD = 0.4
    # Instances of fewer pixels become void. 0 = off.
    node.THING_AREA_LIMIT = 0
    # "maskwise": instead of CLASS_CONFIDENCE_THRESHOLD, for things and for stuff.
    node.MASKWISE_THING_THRESHOLD = 0.7
    node.MASKWISE_STUFF_THRESHOLD = 0.7
    # "maskwise": masks of which no more than this part is left by more confident ones are dropped.
    node.MASKWISE_OVERLAP_THRESHOLD = 0.5
    # "maskwise": masks are ordered by class confidence ** CLASS_WEIGHT * mask confidence **
    # MASK_WEIGHT.
    node.MASKWISE_CLASS_WEIGHT = 1.0
    node.MASKWISE_MASK_WEIGHT = 0.0


def _add_input(node: CfgNode) -> None:
    # Most things of an image, and whether the largest are kept where there are more,
    # instead of an error.
    node.MAX_THINGS = 128
    node.KEEP_LARGEST_THINGS = False


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
    check_head(node.PIXEL_HEAD, prefix + "MAX_DEEPLAB.PIXEL_HEAD.")
    _check_loss(cfg.MODEL.DEEPLAB2.LOSS, prefix + "LOSS.")
    _check_some_loss(cfg)
    _check_postprocessing(cfg.MODEL.DEEPLAB2.POSTPROCESSING, prefix + "POSTPROCESSING.")
    max_things = cfg.INPUT.DEEPLAB2.MAX_THINGS
    require(max_things >= 1, "INPUT.DEEPLAB2.MAX_THINGS", "at least 1", max_things)


def _check_loss(node: CfgNode, prefix: str) -> None:
    for name in ("PQ_STYLE_WEIGHT", "MASK_ID_WEIGHT", "INSTANCE_DISCRIMINATION_WEIGHT"):
        require(node[name] >= 0, prefix + name, "at least 0", node[name])
    for name in ("MASK_ID_TOP_K", "INSTANCE_DISCRIMINATION_TOP_K"):
        require(0.0 < node[name] <= 1.0, prefix + name, "in (0, 1]", node[name])
    alpha = node.PQ_STYLE_ALPHA
    require(0.0 <= alpha <= 1.0, prefix + "PQ_STYLE_ALPHA", "in [0, 1]", alpha)
    require_one_of(prefix + "PQ_STYLE_SIMILARITY", node.PQ_STYLE_SIMILARITY, ("product", "sum"))
    require_one_of(prefix + "UNMATCHED_WEIGHT", node.UNMATCHED_WEIGHT, ("void_ratio", "one"))
    require_one_of(prefix + "SURPLUS_MASKS", node.SURPLUS_MASKS, ("unmatched", "largest", "error"))
    temperature = node.INSTANCE_DISCRIMINATION_TEMPERATURE
    require(
        temperature > 0, prefix + "INSTANCE_DISCRIMINATION_TEMPERATURE", "positive", temperature
    )
    for name in ("SAMPLES", "SAMPLE_TEMPERATURE"):
        value = node["INSTANCE_DISCRIMINATION_" + name]
        require(value >= 0, f"{prefix}INSTANCE_DISCRIMINATION_{name}", "at least 0", value)


def _check_some_loss(cfg: CfgNode) -> None:
    node = cfg.MODEL.DEEPLAB2
    weights = [node.LOSS[f"{n}_WEIGHT"] for n in ("PQ_STYLE", "MASK_ID", "INSTANCE_DISCRIMINATION")]
    weights.append(node.LOSS.SEMANTIC_WEIGHT if node.MAX_DEEPLAB.AUXILIARY_SEMANTIC else 0.0)
    require(
        any(weights),
        "MODEL.DEEPLAB2.LOSS.PQ_STYLE_WEIGHT",
        "positive where all other losses have a weight of 0",
        node.LOSS.PQ_STYLE_WEIGHT,
    )


def _check_postprocessing(node: CfgNode, prefix: str) -> None:
    require_one_of(prefix + "MASK_MODE", node.MASK_MODE, ("pixelwise", "maskwise"))
    for name in (
        "CLASS_CONFIDENCE_THRESHOLD",
        "PIXEL_CONFIDENCE_THRESHOLD",
        "MASKWISE_THING_THRESHOLD",
        "MASKWISE_STUFF_THRESHOLD",
        "MASKWISE_OVERLAP_THRESHOLD",
    ):
        require(0.0 <= node[name] <= 1.0, prefix + name, "in [0, 1]", node[name])
    for name in ("THING_AREA_LIMIT", "MASKWISE_CLASS_WEIGHT", "MASKWISE_MASK_WEIGHT"):
        require(node[name] >= 0, prefix + name, "at least 0", node[name])
    require(
        node.MASK_MODE == "pixelwise" or node.PIXEL_CONFIDENCE_THRESHOLD >= 0.334,
        prefix + "PIXEL_CONFIDENCE_THRESHOLD",
        "at least 0.334 where MASK_MODE is 'maskwise'",
        node.PIXEL_CONFIDENCE_THRESHOLD,
    )
