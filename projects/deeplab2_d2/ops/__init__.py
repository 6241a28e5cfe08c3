"""
Operators: one public function each, and their plain PyTorch reference.

The public functions check their arguments, then call the compiled kernels if the extension is
there, else the reference (see `has_extension` and `use_reference`). Both give the same integers.
`dense_crf` has no kernel for a GPU, and refuses its tensors; `attention_moments`,
`depthwise_convolution`, `resize_window` and `winograd_convolution` have none, either, and run their
references there.
"""

from .assignment import linear_assignment
from .attention_moments import AttentionMoments, attention_moments
from .axial_attention import axial_attention
from .centers import find_centers
from .cross_entropy import upsampled_cross_entropy
from .dense_crf import dense_crf
from .depthwise_convolution import DEPTHWISE_ACTIVATIONS, depthwise_convolution
from .extension import has_extension, use_reference
from .grouping import group_pixels
from .merging import merge_panoptic
from .overlap import label_overlap
from .panoptic import panoptic_from_logits
from .resampling import resample_aligned, resample_argmax
from .resize_window import resize_window
from .results import (
    VOID_PANOPTIC_LABEL,
    PanopticSegmentation,
    SegmentTable,
    SlotSegmentation,
    TargetMaps,
)
from .slots import panoptic_from_slots
from .targets import panoptic_targets
from .winograd_convolution import (
    WINOGRAD_ACTIVATIONS,
    num_winograd_tiles,
    winograd_convolution,
)

__all__ = [
    "DEPTHWISE_ACTIVATIONS",
    "VOID_PANOPTIC_LABEL",
    "WINOGRAD_ACTIVATIONS",
    "AttentionMoments",
    "PanopticSegmentation",
    "SegmentTable",
    "SlotSegmentation",
    "TargetMaps",
    "attention_moments",
    "axial_attention",
    "dense_crf",
    "depthwise_convolution",
    "find_centers",
    "group_pixels",
    "has_extension",
    "label_overlap",
    "linear_assignment",
    "merge_panoptic",
    "num_winograd_tiles",
    "panoptic_from_logits",
    "panoptic_from_slots",
    "panoptic_targets",
    "resample_aligned",
    "resample_argmax",
    "resize_window",
    "upsampled_cross_entropy",
    "use_reference",
    "winograd_convolution",
]
