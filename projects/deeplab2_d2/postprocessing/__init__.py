"""Predictions to labels: pure functions of tensors."""

from .detectron2_outputs import to_instances, to_panoptic_seg
from .panoptic_deeplab import postprocess_full_resolution, postprocess_panoptic, semantic_scores

__all__ = [
    "postprocess_full_resolution",
    "postprocess_panoptic",
    "semantic_scores",
    "to_instances",
    "to_panoptic_seg",
]
