"""Losses of monocular depth, as ViP-DeepLab uses them."""

from typing import Tuple

import torch
from torch import Tensor

from .topk import to_full_precision


def silog_error(
    prediction: Tensor, target: Tensor, *, ignore_value: float = 0.0, empty_value: float = 0.0
) -> Tensor:
    """
    Scale-invariant logarithmic error: the variance of ``log target - log prediction``.

    Reference: Eigen et al., Depth map prediction from a single image using a multi-scale deep
    network, NeurIPS 2014; DeepLab2's ``SILogError``.

    Args:
        prediction: (N, ...) float, positive.
        target: like ``prediction``; ``ignore_value`` where no depth is known.
        ignore_value: see ``target``.
        empty_value: loss of an image without any known depth. DeepLab2 returns NaN there.

    Returns:
        (N,) in at least float32. No gradient comes from pixels that are ignored.

    Raises:
        ValueError: if shapes differ.
    """
    prediction, target, is_known = _prepare(prediction, target, ignore_value)
    difference = torch.where(is_known, target.log() - prediction.log(), 0.0)
    mean = _mean(difference, is_known)
    variance = _mean(difference**2, is_known) - mean**2
    return _replace_empty(variance.to(prediction.dtype), is_known, empty_value)


def relative_squared_error(
    prediction: Tensor, target: Tensor, *, ignore_value: float = 0.0, empty_value: float = 0.0
) -> Tensor:
    """
    Root of the mean of ``((target - prediction) / target) ** 2``.

    Reference: Uhrig et al., Sparsity invariant CNNs, 3DV 2017; DeepLab2's
    ``RelativeSquaredError``.

    Args, Returns, Raises: as :func:`silog_error`.
    """
    prediction, target, is_known = _prepare(prediction, target, ignore_value)
    ratio = torch.where(is_known, (target - prediction) / target, 0.0)
    mean = _mean(ratio**2, is_known)
    # The root has no gradient at 0.
    root = torch.where(mean > 0, mean, 1.0).sqrt()
    error = torch.where(mean > 0, root, torch.zeros_like(root))
    return _replace_empty(error.to(prediction.dtype), is_known, empty_value)


def depth_loss(
    prediction: Tensor, target: Tensor, *, ignore_value: float = 0.0, empty_value: float = 0.0
) -> Tensor:
    """
    The sum of both errors.

    Reference: ViP-DeepLab, CVPR 2021; DeepLab2's ``SILogPlusRelativeSquaredLoss``.

    Args, Returns, Raises: as :func:`silog_error`.
    """
    options = {"ignore_value": ignore_value, "empty_value": empty_value}
    return silog_error(prediction, target, **options) + relative_squared_error(
        prediction, target, **options
    )


def _prepare(
    prediction: Tensor, target: Tensor, ignore_value: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """(N, P) prediction and target, 1 where nothing is known, and where something is."""
    if prediction.shape != target.shape:
        raise ValueError(f"target must be {tuple(prediction.shape)}, got {tuple(target.shape)}")
    prediction = to_full_precision(prediction).flatten(1)
    target = to_full_precision(target).flatten(1)
    is_known = target != ignore_value
    one = torch.ones((), dtype=prediction.dtype, device=prediction.device)
    # Not multiplied by 0 later: 0 * inf would be NaN.
    return torch.where(is_known, prediction, one), torch.where(is_known, target, one), is_known


def _mean(values: Tensor, is_known: Tensor) -> Tensor:
    # In float64, because the logarithmic error is a small difference of two such means.
    return values.sum(1, dtype=torch.float64) / is_known.sum(1).clamp(min=1)


def _replace_empty(error: Tensor, is_known: Tensor, empty_value: float) -> Tensor:
    return torch.where(is_known.any(1), error, torch.full_like(error, empty_value))
