"""Defaults of the DeepLab line's config keys, and their checks."""

from detectron2.config import CfgNode

from ...config import require


def add_config(cfg: CfgNode) -> None:
    """Add the keys of the heads of v1 to v3+ that the shared ones do not have."""
    node = cfg.MODEL.DEEPLAB2.DEEPLAB = CfgNode()
    # Added to the variance by the norms of the head; those of the backbone have NORM.EPSILON.
    node.NORM_EPSILON = 1e-5
    # v3, v3+: branches of a dense prediction cell in place of the ASPP, each [number of the branch
    # it reads or -1 for the feature, vertical rate, horizontal rate], rates in units of 16 pixels
    # of the input; [] = the ASPP.
    node.CELL = []
    # Iterations in which the part of LOSS.SEMANTIC falls from all pixels to what it says (the
    # release's hard_example_mining_step); 0 = it is that from the beginning.
    node.HARD_PIXELS_AFTER = 0
    # v1, v2: atrous rates of the branches whose scores are summed; [] = the paper's.
    node.RATES = []
    # v1, v2: channels of fc6 and fc7; 0 = each branch is one 3x3 convolution to the classes.
    node.HIDDEN_CHANNELS = 1024
    # v1: features that have a branch of their own, whose scores are added (MSc); [] = none.
    node.SIDE_FEATURES = []
    # v2: further scales of the input, whose scores are fused by their maximum; [] = none.
    node.INPUT_SCALES = []
    # Factor on the loss of a pixel by its class, one for each of SEM_SEG_HEAD.NUM_CLASSES; [] = 1.
    # Not read by the heads under Detectron2's SemanticSegmentor.
    node.CLASS_WEIGHTS = []
    # Part of the logarithms of these weights that is taken off the scores in evaluation, in [0, 1]:
    # weighted classes are found more often than they are there, and at 1 as often as without
    # weights.
    node.WEIGHT_CORRECTION = 0.0


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node, prefix = cfg.MODEL.DEEPLAB2.DEEPLAB, "MODEL.DEEPLAB2.DEEPLAB."
    epsilon, hidden = node.NORM_EPSILON, node.HIDDEN_CHANNELS
    require(epsilon > 0, prefix + "NORM_EPSILON", "positive", epsilon)
    require(hidden >= 0, prefix + "HIDDEN_CHANNELS", "at least 0", hidden)
    after = node.HARD_PIXELS_AFTER
    require(after >= 0, prefix + "HARD_PIXELS_AFTER", "at least 0", after)
    weights = list(node.CLASS_WEIGHTS)
    are_weights = all(weight >= 0 for weight in weights) and (not weights or max(weights) > 0)
    is_complete = len(weights) in (0, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    rule = "[], or a weight of at least 0 for each of SEM_SEG_HEAD.NUM_CLASSES, and not 0 all"
    require(are_weights and is_complete, prefix + "CLASS_WEIGHTS", rule, weights)
    correction = node.WEIGHT_CORRECTION
    can_correct = correction == 0 or (weights != [] and min(weights) > 0)
    rule = "in [0, 1], and 0 where CLASS_WEIGHTS is [] or has a 0"
    require(0 <= correction <= 1 and can_correct, prefix + "WEIGHT_CORRECTION", rule, correction)
    rates, scales, cell = list(node.RATES), list(node.INPUT_SCALES), list(node.CELL)
    require(all(rate >= 1 for rate in rates), prefix + "RATES", "rates of at least 1", rates)
    are_factors = all(scale > 0 and scale != 1 for scale in scales)
    require(are_factors, prefix + "INPUT_SCALES", "positive and other than 1", scales)
    are_branches = all(
        isinstance(branch, (list, tuple)) and len(branch) == 3 and min(branch[1:]) >= 1
        for branch in cell
    )
    rule = "branches of a number and two rates of at least 1"
    require(are_branches, prefix + "CELL", rule, cell)
