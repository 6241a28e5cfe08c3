"""Predictions to labels: pure functions of tensors."""

from .center_grouping import panoptic_from_centers, semantic_labels, semantic_scores
from .crf import CRFOptions, refine_with_crf
from .detectron2_outputs import (
    to_instances,
    to_panoptic_outputs,
    to_panoptic_seg,
    to_semantic_outputs,
)
from .frame_pairs import FramePair, panoptic_from_frame_pair
from .geometry import Frames
from .graph_centers import graph_panoptic_from_centers
from .graph_resizing import enlarged_argmax, label_table
from .graph_slots import graph_panoptic_from_mask_slots
from .maps import View, crop_to_image, flip_map, resize_map, restore_view, to_output
from .mask_slots import SlotOptions, panoptic_from_mask_slots, slot_semantic_scores

__all__ = [
    "CRFOptions",
    "FramePair",
    "Frames",
    "SlotOptions",
    "View",
    "crop_to_image",
    "enlarged_argmax",
    "flip_map",
    "graph_panoptic_from_centers",
    "graph_panoptic_from_mask_slots",
    "label_table",
    "panoptic_from_centers",
    "panoptic_from_frame_pair",
    "panoptic_from_mask_slots",
    "refine_with_crf",
    "resize_map",
    "restore_view",
    "semantic_labels",
    "semantic_scores",
    "slot_semantic_scores",
    "to_instances",
    "to_output",
    "to_panoptic_outputs",
    "to_panoptic_seg",
    "to_semantic_outputs",
]
