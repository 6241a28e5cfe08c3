"""How DeepLab2 (Keras) draws initial weights."""

import math
from typing import Optional

import torch
from torch import Tensor, nn

# Standard deviation of a unit normal that is cut off at two standard deviations. Keras divides by
# it, so that the truncated draw has the variance asked for.
_TRUNCATED_STD = 0.87962566103423978


def truncated_normal_(weight: Tensor, std: float) -> None:
    """Normal with standard deviation ``std`` before it is cut off at two of them, in place."""
    if weight.is_meta:
        # No numbers to draw: PyTorch would take most of a large network's time to say so.
        return
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


def zeros_(tensor: Optional[Tensor]) -> None:
    """Zeros, in place; nothing for a bias that there is not."""
    if tensor is not None:
        nn.init.zeros_(tensor)


def he_normal_(weight: Tensor) -> None:
    """
    Keras's ``he_normal``: truncated, with variance 2 / fan_in, in place.

    Args:
        weight: (out, in, ...) of a dense convolution.
    """
    _variance_scaling_(weight, 2.0)


def lecun_normal_(weight: Tensor) -> None:
    """Keras's ``VarianceScaling`` as it comes: truncated, with variance 1 / fan_in, in place."""
    _variance_scaling_(weight, 1.0)


def _variance_scaling_(weight: Tensor, scale: float) -> None:
    fan_in = weight[0].numel()
    truncated_normal_(weight, math.sqrt(scale / fan_in) / _TRUNCATED_STD)


def depthwise_glorot_uniform_(weight: Tensor) -> None:
    """
    Keras's default for a depthwise kernel, in place.

    Keras takes fan_in over all input channels, although a depthwise filter reads one of them.

    Args:
        weight: (channels, 1, h, w).
    """
    channels, _, height, width = weight.shape
    limit = math.sqrt(6.0 / (height * width * (channels + 1)))
    with torch.no_grad():
        weight.uniform_(-limit, limit)
