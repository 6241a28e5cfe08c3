"""Softmax cross-entropy over pixels or over mask slots."""

from typing import Optional, Set, Tuple

import torch
from torch import Tensor

from .pixel_softmax import slot_cross_entropy
from .topk import average_top_k, to_full_precision


def topk_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    *,
    ignore_label: Optional[int],
    top_k_percent: float = 1.0,
) -> Tensor:
    """
    Weighted bootstrapped cross-entropy: the mean over the hardest pixels of each image.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1; DeepLab2's ``TopKCrossEntropyLoss``.
    The weight is applied before the hardest pixels are chosen. Computed in float32 (float64 for
    float64 logits), under autocast too.

    Args:
        logits: (N, C, H, W) or (N, C, L) float.
        labels: integer class ids of the shape of ``logits`` without C, each in [0, C) or
            ``ignore_label``; or float class probabilities of the shape of ``logits``. Two
            dimensional labels may be larger, (1 + s * (H - 1), 1 + s * (W - 1)): then every s-th
            pixel of labels and weights is used.
        weights: float, of the shape of integer labels; None = 1 everywhere. They may need
            gradients (MaX-DeepLab weights slots by their predicted masks).
        ignore_label: class id without a loss; None = no such id. Unused for probabilities.
        top_k_percent: fraction of an image's pixels to keep, in [0, 1].

    Returns:
        (N,) mean over the kept pixels whose loss is not zero; 0 where there is none.

    Raises:
        ValueError: if shapes do not fit each other or ``top_k_percent`` is not in [0, 1].
    """
    is_soft = labels.is_floating_point()
    spatial = tuple(logits.shape[2:])
    if len(spatial) == 2:
        labels = stride_to_size(labels, spatial)
        weights = None if weights is None else stride_to_size(weights, spatial)
    expected = tuple(logits.shape) if is_soft else (logits.shape[0], *spatial)
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels must be {expected}, got {tuple(labels.shape)}")
    if weights is not None and tuple(weights.shape) != (logits.shape[0], *spatial):
        raise ValueError(
            f"weights must be {(logits.shape[0], *spatial)}, got {tuple(weights.shape)}"
        )
    if is_soft:
        losses = soft_cross_entropy(logits, labels)
    else:
        losses = _hard_cross_entropy(logits, labels, ignore_label)
    if weights is not None:
        losses = losses * to_full_precision(weights)
    return average_top_k(losses, top_k_percent)


def _hard_cross_entropy(logits: Tensor, labels: Tensor, ignore_label: Optional[int]) -> Tensor:
    """Of integer labels, in at least float32; 0 and without a gradient at the ignore label."""
    has_label = torch.ones_like(labels, dtype=torch.bool)
    if ignore_label is not None:
        has_label = labels != ignore_label
    slots = torch.where(has_label, labels, -1).long().flatten(1)
    with torch.autocast(logits.device.type, enabled=False):
        losses = slot_cross_entropy(logits.flatten(2), slots, has_label.flatten(1))
    # Without a label there is no gradient either.
    return losses.view(labels.shape) * has_label


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """
    Cross-entropy with class probabilities, without a reduction, in at least float32.

    The gradient is that of TensorFlow, ``softmax - labels``, also where they do not sum to 1: an
    all-zero label has loss 0 and still pushes all logits down. Give such elements weight 0 where
    that is not wanted.

    Args:
        logits: (N, C, ...) float.
        labels: (N, C, ...) float probabilities without a gradient.

    Returns:
        (N, ...) float.
    """
    logits = to_full_precision(logits)
    with torch.autocast(logits.device.type, enabled=False):
        labels = labels.to(logits.dtype)
        log_partition = torch.logsumexp(logits, 1)
        # The missing mass changes the value only; see the docstring.
        missing = (1.0 - labels.sum(1)) * log_partition.detach()
        return log_partition - (labels * logits).sum(1) - missing


def stride_to_size(maps: Tensor, size: Tuple[int, int]) -> Tensor:
    """
    Sample every s-th pixel of a map so that its last two dimensions become ``size``.

    Args:
        maps: (..., H, W) with H = 1 + s * (height - 1), W = 1 + s * (width - 1).
        size: (height, width) to reach.

    Returns:
        (..., height, width), a view.

    Raises:
        ValueError: if there is no such integer s, or it differs between height and width.
    """
    strides: Set[int] = set()
    for source, target in zip(maps.shape[-2:], size):
        if source == target:
            # A single row or column fits every stride.
            strides.update(() if source == 1 else (1,))
        elif target < 2 or source < target or (source - 1) % (target - 1):
            raise ValueError(
                f"a map of {tuple(maps.shape[-2:])} cannot be sampled to {tuple(size)} with a "
                "whole stride: sizes must be 1 + stride * (target - 1)"
            )
        else:
            strides.add((source - 1) // (target - 1))
    if len(strides) > 1:
        raise ValueError(
            f"a map of {tuple(maps.shape[-2:])} has different strides {sorted(strides)} to "
            f"{tuple(size)}: height and width must share one"
        )
    stride = strides.pop() if strides else 1
    return maps[..., ::stride, ::stride]
