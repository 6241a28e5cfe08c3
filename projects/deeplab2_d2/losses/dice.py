"""Overlap of soft masks with ground truth: the dice loss and the similarities behind matching."""

import torch
from torch import Tensor

from .topk import to_full_precision

# Keeps the similarity of two empty masks defined.
_EPSILON = 1e-5

SIMILARITIES = ("dice", "iou", "intersection_over_ground_truth", "intersection_over_prediction")


def mask_dice_loss(
    logits: Tensor, masks: Tensor, weights: Tensor, *, activation: str = "softmax"
) -> Tensor:
    """
    Sum over masks of ``1 - dice``, with 1 added to both sides of the fraction.

    Reference: the dice loss of V-Net (arXiv:1606.04797), as in DeepLab2's ``MaskDiceLoss``; the
    mask term of MaX-DeepLab (arXiv:2012.00759), Eq. 10.

    Args:
        logits: (N, K, ...) float, one channel a mask.
        masks: of the same shape, 0 or 1, at most one 1 a pixel. Pixels without one are void: they
            count for no mask.
        weights: (N, K) float, which may need gradients.
        activation: "softmax" over the masks, or "sigmoid".

    Returns:
        (N,) float.

    Raises:
        ValueError: if ``activation`` is neither, or shapes differ.
    """
    if logits.shape != masks.shape:
        raise ValueError(f"masks must be {tuple(logits.shape)}, got {tuple(masks.shape)}")
    if activation not in ("softmax", "sigmoid"):
        raise ValueError(f"activation must be 'softmax' or 'sigmoid', got {activation!r}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = to_full_precision(logits)
        probabilities = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
        masks = masks.to(logits.dtype).flatten(2)
        probabilities = probabilities.flatten(2) * masks.sum(1, keepdim=True)
        overlap = (probabilities * masks).sum(2)
        losses = dice_loss_from_areas(overlap, probabilities.sum(2), masks.sum(2))
        return (losses * to_full_precision(weights)).sum(1)


def dice_loss_from_areas(overlap: Tensor, predicted_area: Tensor, true_area: Tensor) -> Tensor:
    """``1 - (2 overlap + 1) / (predicted + true + 1)``, for tensors of one shape."""
    return 1.0 - (2.0 * overlap + 1.0) / (predicted_area + true_area + 1.0)


def mask_similarity(true_masks: Tensor, predicted_masks: Tensor, metric: str = "dice") -> Tensor:
    """
    Similarity of all pairs of ground truth and predicted masks.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 6, and DeepLab2's ``_mask_similarity``.

    Args:
        true_masks: (N, G, P) float, 0 or 1, over P pixels.
        predicted_masks: (N, K, P) float, at least 0.
        metric: one of :data:`SIMILARITIES`.

    Returns:
        (N, G, K) float in [0, 1].

    Raises:
        ValueError: if ``metric`` is unknown.
    """
    overlap = true_masks @ predicted_masks.transpose(1, 2)
    return similarity_from_areas(overlap, true_masks.sum(2), predicted_masks.sum(2), metric=metric)


def similarity_from_areas(
    overlap: Tensor, true_area: Tensor, predicted_area: Tensor, *, metric: str = "dice"
) -> Tensor:
    """
    Args:
        overlap: (N, G, K) areas common to each pair.
        true_area: (N, G).
        predicted_area: (N, K).
        metric: one of :data:`SIMILARITIES`.

    Returns:
        (N, G, K).

    Raises:
        ValueError: if ``metric`` is unknown.
    """
    true_area, predicted_area = true_area[:, :, None], predicted_area[:, None, :]
    if metric == "dice":
        denominator = (true_area + predicted_area) / 2
    elif metric == "iou":
        denominator = true_area + predicted_area - overlap
    elif metric == "intersection_over_ground_truth":
        denominator = true_area
    elif metric == "intersection_over_prediction":
        denominator = predicted_area
    else:
        raise ValueError(f"metric must be one of {SIMILARITIES}, got {metric!r}")
    return overlap / (denominator + _EPSILON)
