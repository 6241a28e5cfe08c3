"""The mean over the hardest elements of an image that all pixel losses share."""

import numpy as np
import torch
from torch import Tensor


def count_top_k(num_elements: int, top_k_percent: float) -> int:
    """
    Number of elements that a fraction keeps.

    As in DeepLab2 the product is taken in float32 and rounded half to even, so 0.15 of 425
    elements (63.75) are 64.

    Args:
        num_elements: elements of one image.
        top_k_percent: fraction to keep, in [0, 1].

    Raises:
        ValueError: if ``top_k_percent`` is not in [0, 1].
    """
    if not 0.0 <= top_k_percent <= 1.0:
        raise ValueError(f"top_k_percent must be in [0, 1], got {top_k_percent}")
    return int(np.rint(np.float32(top_k_percent) * np.float32(num_elements)))


def average_top_k(losses: Tensor, top_k_percent: float = 1.0) -> Tensor:
    """
    Average the largest losses of each image over those that are not zero.

    Reference: the bootstrapped loss of Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1. Like
    DeepLab2, and unlike Detectron2, the largest are chosen within each image, and the divisor
    counts non-zero losses only, so that ignored pixels and pixels of weight 0 do not dilute the
    mean.

    Args:
        losses: (N, ...) float, at least 0.
        top_k_percent: fraction of an image's elements to keep, in [0, 1]; 1 keeps all.

    Returns:
        (N,) of the dtype of ``losses``; 0 for an image all of whose losses are 0.

    Raises:
        ValueError: if ``top_k_percent`` is not in [0, 1].
    """
    losses = losses.flatten(1)
    num_kept = count_top_k(losses.shape[1], top_k_percent)
    if num_kept < losses.shape[1]:
        losses = torch.topk(losses, num_kept, dim=1, sorted=False).values
    num_nonzero = (losses != 0).sum(1)
    return losses.sum(1) / num_nonzero.clamp(min=1)


def to_full_precision(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
