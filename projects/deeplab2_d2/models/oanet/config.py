"""Defaults of OANet's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import require, require_one_of

SHARING = ("pyramid", "backbone", "none")
SEMANTIC_CLASSES = ("all", "stuff", "stuff_and_thing")
LAYOUTS = ("square", "sequence", "branches")


def add_config(cfg: CfgNode) -> None:
    """
    Add the keys of sharing, stuff and the spatial ranking module.

    What Detectron2 has keys for, stands there: the stuff branch at MODEL.SEM_SEG_HEAD (NAME
    "DeepLab2OANetStuffHead" is the paper's, LOSS_WEIGHT the paper's lambda), thresholds of the
    merge at MODEL.PANOPTIC_FPN.COMBINE.
    """
    node = cfg.MODEL.DEEPLAB2.OANET = CfgNode()
    # What stuff and instance branch have in common: "pyramid" (up to the FPN's output
    # convolutions), "backbone" (the ResNet; each has a pyramid of its own), "none".
    node.SHARING = "pyramid"
    # Channels of the stuff branch, SEM_SEG_HEAD.NUM_CLASSES in number: "all" classes; "stuff" alone
    # (things are not supervised); "stuff_and_thing" (channel 0 is any thing, then stuff, as
    # Detectron2's Panoptic FPN has it).
    node.SEMANTIC_CLASSES = "all"
    # Whether PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT is of connected areas; else of a class's total.
    node.CONNECTED_STUFF = True
    node.RANKING = CfgNode()
    # Spatial ranking module; "" = none: detection scores decide.
    node.RANKING.MODULE = "DeepLab2SpatialRankingHead"
    # Side k of its kernel (odd), and how it is made: "square" (k x k), "sequence" (1 x k, then
    # k x 1), "branches" (both orders, summed).
    node.RANKING.KERNEL = 7
    node.RANKING.LAYOUT = "sequence"
    # Stride of its input: 1, or such as 4 with soft masks, which needs 1/16 of the memory.
    node.RANKING.STRIDE = 1
    # Instances that it is trained on: "truth", or "predicted" ones (detached).
    node.RANKING.MASKS = "truth"
    # Pixels that it is trained at: of at least two "instances", of two "classes", or "all".
    node.RANKING.CONFLICTS = "instances"
    node.RANKING.LOSS_WEIGHT = 1.0
    # Order overlapping instances of one class, which share a channel, by detection score instead of
    # by their ranking scores. Not in the paper.
    node.RANKING.DETECTION_WITHIN_CLASS = False
    # Train the ranking module alone; everything else keeps its weights.
    node.RANKING.ALONE = False


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node, prefix = cfg.MODEL.DEEPLAB2.OANET, "MODEL.DEEPLAB2.OANET."
    require_one_of(prefix + "SHARING", node.SHARING, SHARING)
    require_one_of(prefix + "SEMANTIC_CLASSES", node.SEMANTIC_CLASSES, SEMANTIC_CLASSES)
    ranking, prefix = node.RANKING, prefix + "RANKING."
    require_one_of(prefix + "LAYOUT", ranking.LAYOUT, LAYOUTS)
    require_one_of(prefix + "MASKS", ranking.MASKS, ("truth", "predicted"))
    require_one_of(prefix + "CONFLICTS", ranking.CONFLICTS, ("instances", "classes", "all"))
    is_odd = ranking.KERNEL >= 1 and ranking.KERNEL % 2 == 1
    require(is_odd, prefix + "KERNEL", "odd and positive", ranking.KERNEL)
    require(ranking.STRIDE >= 1, prefix + "STRIDE", "at least 1", ranking.STRIDE)
    require(ranking.LOSS_WEIGHT > 0, prefix + "LOSS_WEIGHT", "positive", ranking.LOSS_WEIGHT)
    require(
        bool(ranking.MODULE) or not ranking.ALONE,
        prefix + "ALONE",
        "False where there is no ranking module",
        ranking.ALONE,
    )
    # How many objects there are, only the GPU knows.
    require_one_of("TEST.DEEPLAB2.CUDA_GRAPH", cfg.TEST.DEEPLAB2.CUDA_GRAPH, (False,))
    require(cfg.MODEL.MASK_ON, "MODEL.MASK_ON", "True for a panoptic model", cfg.MODEL.MASK_ON)
