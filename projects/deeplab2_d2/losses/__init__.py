"""One idea a file: plain tensors in, one loss an image out."""

from .cross_entropy import cross_entropy_per_pixel, stride_to_size, topk_cross_entropy
from .depth import depth_loss, relative_squared_error, silog_error
from .dice import mask_dice_loss, mask_similarity
from .focal import focal_cross_entropy
from .hungarian import AssignmentSolver, hungarian_matching
from .instance_discrimination import (
    discriminate_instances,
    instance_discrimination_loss,
    pixel_contrastive_loss,
)
from .mask_matching import MaskMatching, match_masks, match_overlaps
from .mask_overlaps import MaskOverlaps, measure_overlaps
from .mask_targets import MaskTargets, build_mask_targets
from .max_deeplab import MaskLosses, mask_losses
from .max_deeplab_metrics import matching_metrics, recognition_metric
from .max_deeplab_total import MaXDeepLabLossOptions, max_deeplab_losses
from .regression import topk_l1, topk_mse
from .slot_cross_entropy import slot_cross_entropy
from .surplus_masks import limit_masks
from .topk import average_top_k, count_top_k

__all__ = [
    "AssignmentSolver",
    "MaskLosses",
    "MaskMatching",
    "MaskOverlaps",
    "MaskTargets",
    "MaXDeepLabLossOptions",
    "average_top_k",
    "build_mask_targets",
    "count_top_k",
    "cross_entropy_per_pixel",
    "depth_loss",
    "discriminate_instances",
    "focal_cross_entropy",
    "hungarian_matching",
    "instance_discrimination_loss",
    "limit_masks",
    "mask_dice_loss",
    "mask_losses",
    "mask_similarity",
    "match_masks",
    "match_overlaps",
    "matching_metrics",
    "max_deeplab_losses",
    "measure_overlaps",
    "pixel_contrastive_loss",
    "recognition_metric",
    "relative_squared_error",
    "silog_error",
    "slot_cross_entropy",
    "stride_to_size",
    "topk_cross_entropy",
    "topk_l1",
    "topk_mse",
]
