"""One idea a file: plain tensors in, one loss an image out."""

from .cross_entropy import soft_cross_entropy, stride_to_size, topk_cross_entropy
from .depth import depth_loss, relative_squared_error, silog_error
from .dice import mask_dice_loss, mask_similarity
from .focal import focal_cross_entropy
from .mask_losses import MaskLosses, mask_losses, matching_metrics
from .mask_matching import (
    MaskMatching,
    MaskOverlaps,
    hungarian_matching,
    match_masks,
    measure_overlaps,
)
from .mask_targets import MaskTargets, SurplusMasksError, build_mask_targets, limit_masks
from .mask_transformer import (
    MaskOutputs,
    MaskTransformerLossOptions,
    mask_transformer_losses,
)
from .pixel_contrast import (
    discriminate_instances,
    instance_discrimination_loss,
    pixel_contrastive_loss,
    recognition_metric,
)
from .pixel_softmax import slot_cross_entropy
from .regression import topk_binary_cross_entropy, topk_l1, topk_mse
from .topk import average_top_k, count_top_k

__all__ = [
    "MaskLosses",
    "MaskMatching",
    "MaskOutputs",
    "MaskOverlaps",
    "MaskTargets",
    "MaskTransformerLossOptions",
    "SurplusMasksError",
    "average_top_k",
    "build_mask_targets",
    "count_top_k",
    "depth_loss",
    "discriminate_instances",
    "focal_cross_entropy",
    "hungarian_matching",
    "instance_discrimination_loss",
    "limit_masks",
    "mask_dice_loss",
    "mask_losses",
    "mask_similarity",
    "mask_transformer_losses",
    "match_masks",
    "matching_metrics",
    "measure_overlaps",
    "pixel_contrastive_loss",
    "recognition_metric",
    "relative_squared_error",
    "silog_error",
    "slot_cross_entropy",
    "soft_cross_entropy",
    "stride_to_size",
    "topk_binary_cross_entropy",
    "topk_cross_entropy",
    "topk_l1",
    "topk_mse",
]
