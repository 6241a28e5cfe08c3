"""One idea a file: plain tensors in, one loss an image out."""

from .cross_entropy import cross_entropy_per_pixel, stride_to_size, topk_cross_entropy
from .regression import topk_l1, topk_mse
from .topk import average_top_k, count_top_k

__all__ = [
    "average_top_k",
    "count_top_k",
    "cross_entropy_per_pixel",
    "stride_to_size",
    "topk_cross_entropy",
    "topk_l1",
    "topk_mse",
]
