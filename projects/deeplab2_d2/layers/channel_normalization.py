"""Batch norm in two steps, statistics and then scales, each of which keeps its input alone."""

from typing import Any, Tuple

import torch
from torch import Tensor

from .norm import Moments

# What is made at once of a feature map's difference from its mean.
_CHUNK_ELEMENTS = 2**18


def channel_moments(features: Tensor) -> Moments:
    """
    Mean and mean square of each channel of (N, C, H, W).

    Returns:
        (C,) and (C,), float64: the variance is the difference of the two, which may be large.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _moments(features)
    mean, square = _ChannelMoments.apply(features)
    return mean, square


def scaled_sum(features: Tensor, scale_TC: Tensor, shift_TC: Tensor) -> Tensor:
    """
    The sum over T of (N, T * C, H, W), each channel times its scale plus its shift.

    Returns:
        (N, C, H, W), of the features' dtype.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _scaled_sum(features, scale_TC, shift_TC.sum(dim=0))
    return _ScaledSum.apply(features, scale_TC, shift_TC.sum(dim=0))


def per_channel(values_C: Tensor) -> Tensor:
    """(C,) to (1, C, 1, 1)."""
    return values_C.view(1, -1, 1, 1)


def _moments(features: Tensor) -> Tuple[Tensor, Tensor]:
    if features.dtype not in (torch.float32, torch.float64):
        features = features.float()
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        variance, mean = torch.var_mean(features, dim=(0, 2, 3), correction=0)
    else:
        mean = features.mean(dim=(0, 2, 3))
        variance = _variance(features, mean)
    mean = mean.double()
    return mean, variance.double() + mean * mean


def _variance(features: Tensor, mean_C: Tensor) -> Tensor:
    """On a CPU several times as fast as torch.var, which updates a mean with each value."""
    num_channels = max(1, _CHUNK_ELEMENTS * features.shape[1] // features.numel())
    parts = []
    for part, mean in zip(features.split(num_channels, dim=1), mean_C.split(num_channels)):
        parts.append((part - per_channel(mean)).square_().mean(dim=(0, 2, 3)))
    return torch.cat(parts)


class _ChannelMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tuple[Tensor, Tensor]:
        ctx.save_for_backward(features)
        return _moments(features)

    @staticmethod
    def backward(ctx: Any, mean: Tensor, square: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        count = features.numel() // features.shape[1]
        dtype = torch.promote_types(features.dtype, torch.float32)
        offset = per_channel((mean / count).to(dtype))
        factor = per_channel((2.0 * square / count).to(dtype))
        return torch.addcmul(offset, features, factor).to(features.dtype)


def _scaled_sum(features: Tensor, scale_TC: Tensor, shift_C: Tensor) -> Tensor:
    terms = features.split(scale_TC.shape[1], dim=1)
    total = torch.addcmul(per_channel(shift_C), terms[0], per_channel(scale_TC[0]))
    for term, scale_C in zip(terms[1:], scale_TC[1:]):
        total = total.addcmul_(term, per_channel(scale_C))
    return total.to(features.dtype)


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, scale_TC: Tensor, shift_C: Tensor) -> Tensor:
        ctx.save_for_backward(features, scale_TC)
        return _scaled_sum(features, scale_TC, shift_C)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        features, scale_TC = ctx.saved_tensors
        terms = features.split(scale_TC.shape[1], dim=1)
        exact = gradient.to(scale_TC.dtype)
        scales = [(exact * term).sum(dim=(0, 2, 3)) for term in terms]
        found = torch.empty_like(features)
        for part, scale_C in zip(found.split(scale_TC.shape[1], dim=1), scale_TC):
            torch.mul(exact, per_channel(scale_C), out=part)
        return found, torch.stack(scales), exact.sum(dim=(0, 2, 3))
