"""Predictions to labels: pure functions of tensors."""

from .detectron2_outputs import to_instances, to_panoptic_seg
from .max_deeplab import (
    MaXDeepLabPostprocessing,
    panoptic_from_mask_slots,
    slot_semantic_scores,
)
from .panoptic_deeplab import postprocess_full_resolution, postprocess_panoptic, semantic_scores

__all__ = [
    "MaXDeepLabPostprocessing",
    "panoptic_from_mask_slots",
    "postprocess_full_resolution",
    "postprocess_panoptic",
    "semantic_scores",
    "slot_semantic_scores",
    "to_instances",
    "to_panoptic_seg",
]
