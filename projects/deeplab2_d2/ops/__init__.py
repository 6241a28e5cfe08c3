"""
Operators: one public function each, and their plain PyTorch reference.

The public functions check their arguments, then call the compiled kernels if the extension is
there, else the reference (see `has_extension`). Both give the same integers.
"""

from .centers import find_centers
from .extension import has_extension
from .grouping import group_pixels
from .merging import merge_panoptic
from .panoptic import panoptic_from_logits
from .reference import resample_aligned
from .results import VOID_PANOPTIC_LABEL, PanopticSegmentation, SegmentTable

__all__ = [
    "VOID_PANOPTIC_LABEL",
    "PanopticSegmentation",
    "SegmentTable",
    "find_centers",
    "group_pixels",
    "has_extension",
    "merge_panoptic",
    "panoptic_from_logits",
    "resample_aligned",
]
