"""The losses of kMaX-DeepLab: MaX-DeepLab's, of every layer."""

from dataclasses import replace

from detectron2.config import CfgNode

from ..max_deeplab import MaXDeepLabCriterion


def criterion_from_config(cfg: CfgNode) -> MaXDeepLabCriterion:
    """MaX-DeepLab's criterion; MODEL.DEEPLAB2.KMAX_DEEPLAB says how the layers are matched."""
    criterion = MaXDeepLabCriterion.from_config(cfg)
    match_each = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB.MATCH_EACH
    return replace(criterion, options=replace(criterion.options, match_auxiliary=match_each))
