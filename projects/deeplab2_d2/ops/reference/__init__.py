"""
The operators in plain PyTorch: the specification that the compiled kernels equal.

Float arithmetic is float32 and its order is spelled out, because it decides integers: every kernel
repeats it operation by operation, without contraction into fused multiply-adds. What is not finite
gives the same everywhere, too: NaN is larger than any number (as in torch.argmax) and above no
threshold.
"""

from .assignment import linear_assignment
from .attention_moments import attention_moments
from .axial_attention import axial_attention
from .centers import find_centers
from .cross_entropy import upsampled_cross_entropy
from .dense_crf import dense_crf, exact_dense_crf
from .depthwise_convolution import depthwise_convolution
from .grouping import group_pixels
from .merging import merge_panoptic
from .overlap import label_overlap
from .panoptic import panoptic_from_logits
from .resampling import resample_aligned, resample_argmax
from .resize_window import resize_window
from .slots import panoptic_from_slots
from .targets import panoptic_targets
from .winograd_convolution import winograd_convolution

__all__ = [
    "attention_moments",
    "axial_attention",
    "dense_crf",
    "depthwise_convolution",
    "exact_dense_crf",
    "find_centers",
    "group_pixels",
    "label_overlap",
    "linear_assignment",
    "merge_panoptic",
    "panoptic_from_logits",
    "panoptic_from_slots",
    "panoptic_targets",
    "resample_aligned",
    "resample_argmax",
    "resize_window",
    "upsampled_cross_entropy",
    "winograd_convolution",
]
