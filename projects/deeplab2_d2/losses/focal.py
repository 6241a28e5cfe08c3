"""Cross-entropy that weighs background against the rest and easy elements against hard ones."""

from typing import Optional

from torch import Tensor

from .cross_entropy import soft_cross_entropy
from .topk import average_top_k, to_full_precision


def focal_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    *,
    alpha: float = 0.75,
    gamma: float = 0.0,
    background_channel: int = -1,
) -> Tensor:
    """
    Softmax cross-entropy times ``(1 - p) ** gamma`` and a weight of the background.

    Reference: focal loss (arXiv:1708.02002), with softmax as in DeepLab2's
    ``FocalCrossEntropyLoss``; the class term of MaX-DeepLab (arXiv:2012.00759), Eq. 10, with
    gamma 0.

    Args:
        logits: (N, C, ...) float.
        labels: (N, C, ...) float, one-hot or class probabilities.
        weights: (N, ...) float, which may need gradients; None = 1 everywhere.
        alpha: weight of elements that are not background; background has 1 - alpha. Negative = no
            such weight.
        gamma: exponent of the focal factor; 0 = none.
        background_channel: index of background among the C channels.

    Returns:
        (N,) mean over the elements whose loss is not zero; 0 where there is none.

    Raises:
        ValueError: if labels and logits differ in shape.
    """
    if labels.shape != logits.shape:
        raise ValueError(f"labels must be {tuple(logits.shape)}, got {tuple(labels.shape)}")
    logits = to_full_precision(logits)
    labels = labels.to(logits.dtype)
    losses = soft_cross_entropy(logits, labels)
    if gamma != 0:
        probability = (logits.softmax(1) * labels).sum(1)
        losses = losses * (1.0 - probability) ** gamma
    if alpha >= 0:
        background = labels.select(1, background_channel)
        losses = losses * (alpha * (1.0 - background) + (1.0 - alpha) * background)
    if weights is not None:
        losses = losses * to_full_precision(weights)
    return average_top_k(losses)
