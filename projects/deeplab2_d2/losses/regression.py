"""Losses of center heatmaps and of offsets."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .topk import average_top_k, to_full_precision


def topk_mse(
    prediction: Tensor, target: Tensor, weights: Optional[Tensor], *, top_k_percent: float = 1.0
) -> Tensor:
    """
    Squared error, averaged over channels and then over the hardest non-zero pixels.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1, instance center regression.

    Args:
        prediction: (N, C, H, W) float.
        target: like ``prediction``.
        weights: (N, H, W) float; None = 1 everywhere.
        top_k_percent: fraction of an image's pixels to keep, in [0, 1].

    Returns:
        (N,) in at least float32; see :func:`average_top_k`.

    Raises:
        ValueError: if shapes do not fit each other or ``top_k_percent`` is not in [0, 1].
    """
    errors = _subtract(prediction, target).square()
    return _average(errors, weights, top_k_percent)


def topk_binary_cross_entropy(
    prediction: Tensor, target: Tensor, weights: Optional[Tensor], *, top_k_percent: float = 1.0
) -> Tensor:
    """
    Cross-entropy of probabilities, averaged over channels and then over the hardest pixels.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 4.1, "sigmoid cross entropy loss for
    training the heatmap". Of a probability of 0 or 1 the logarithm is taken to be -100.

    Args:
        prediction: (N, C, H, W) float, within [0, 1].
        target: like ``prediction``.
        weights, top_k_percent: see :func:`topk_mse`.

    Returns, Raises: as :func:`topk_mse`.
    """
    _check_shapes(prediction, target)
    with torch.autocast(prediction.device.type, enabled=False):
        errors = F.binary_cross_entropy(
            to_full_precision(prediction), to_full_precision(target), reduction="none"
        )
    return _average(errors, weights, top_k_percent)


def topk_l1(
    prediction: Tensor, target: Tensor, weights: Optional[Tensor], *, top_k_percent: float = 1.0
) -> Tensor:
    """
    Absolute error, averaged over channels and then over the hardest non-zero pixels.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1, offset regression. As in DeepLab2 the
    two channels are averaged; Detectron2 sums them, so that its weight 0.01 counts double.

    Args, Returns, Raises: as :func:`topk_mse`.
    """
    return _average(_subtract(prediction, target).abs(), weights, top_k_percent)


def _subtract(prediction: Tensor, target: Tensor) -> Tensor:
    _check_shapes(prediction, target)
    return to_full_precision(prediction) - to_full_precision(target)


def _check_shapes(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"target must be {tuple(prediction.shape)}, got {tuple(target.shape)}: "
            "prediction and target share a shape"
        )


def _average(errors: Tensor, weights: Optional[Tensor], top_k_percent: float) -> Tensor:
    with torch.autocast(errors.device.type, enabled=False):
        losses = errors.mean(1)
        if weights is not None:
            if weights.shape != losses.shape:
                raise ValueError(
                    f"weights must be {tuple(losses.shape)}, got {tuple(weights.shape)}"
                )
            losses = losses * to_full_precision(weights)
        return average_top_k(losses, top_k_percent)
