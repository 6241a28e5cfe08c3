"""Defaults of the classifier's config keys, and their checks."""

from typing import Any

from detectron2.config import CfgNode

from ...config import require, require_one_of
from ...data.classification_mapper import COLOR_POLICIES

_PREFIX = "MODEL.DEEPLAB2.IMAGE_CLASSIFIER."
_INPUT = "INPUT.DEEPLAB2.CLASSIFICATION."


def add_config(cfg: CfgNode) -> None:
    """Add the keys of classifier and crops; the number of classes is SEM_SEG_HEAD.NUM_CLASSES."""
    node = cfg.MODEL.DEEPLAB2.IMAGE_CLASSIFIER = CfgNode()
    # Part of the target that is spread over all classes: [0, 1).
    node.LABEL_SMOOTHING = 0.0
    # Probability that an averaged feature is dropped in training: [0, 1).
    node.DROPOUT = 0.0
    node = cfg.INPUT.DEEPLAB2.CLASSIFICATION = CfgNode()
    # Share of the image's area that a training crop shows, least and greatest: (0, 1].
    node.AREA_RANGE = [0.08, 1.0]
    # Its width over its height, least and greatest.
    node.ASPECT_RANGE = [3 / 4, 4 / 3]
    # "none", "autoaugment" (the policy for ImageNet), "randaugment" (two operations of magnitude 9)
    # or "simple_classification_policy", the colors of it alone.
    node.COLOR_POLICY = "none"
    # In evaluation: length of the square in the middle that is looked at over the shorter side:
    # (0, 1].
    node.CROP_FRACTION = 0.875


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node = cfg.MODEL.DEEPLAB2.IMAGE_CLASSIFIER
    for key in ("LABEL_SMOOTHING", "DROPOUT"):
        require(0.0 <= node[key] < 1.0, _PREFIX + key, "in [0, 1)", node[key])
    count = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    require(count >= 2, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "at least 2", count)
    node = cfg.INPUT.DEEPLAB2.CLASSIFICATION
    areas, aspects = list(node.AREA_RANGE), list(node.ASPECT_RANGE)
    rule = "a least and a greatest share in (0, 1]"
    require(_is_range(areas) and areas[1] <= 1.0, _INPUT + "AREA_RANGE", rule, areas)
    rule = "a least and a greatest positive ratio"
    require(_is_range(aspects), _INPUT + "ASPECT_RANGE", rule, aspects)
    require_one_of(_INPUT + "COLOR_POLICY", node.COLOR_POLICY, COLOR_POLICIES)
    fraction = node.CROP_FRACTION
    require(0.0 < fraction <= 1.0, _INPUT + "CROP_FRACTION", "in (0, 1]", fraction)
    size = list(cfg.INPUT.CROP.SIZE)
    are_pixels = len(size) == 2 and all(isinstance(side, int) and side >= 1 for side in size)
    require(are_pixels, "INPUT.CROP.SIZE", "a height and a width in pixels", size)
    require_one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB", "BGR"))
    require_one_of("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP, ("horizontal", "none"))
    require_one_of("TEST.AUG.ENABLED", cfg.TEST.AUG.ENABLED, (False,))
    require_one_of("TEST.DEEPLAB2.CUDA_GRAPH", cfg.TEST.DEEPLAB2.CUDA_GRAPH, (False,))


def _is_range(values: Any) -> bool:
    return len(values) == 2 and 0.0 < values[0] <= values[1]
