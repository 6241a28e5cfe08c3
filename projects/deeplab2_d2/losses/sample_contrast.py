"""The contrastive loss of sampled pixels with a gradient that needs little memory."""

from typing import Any, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .pixel_chunks import (
    cross_entropy,
    exponentials,
    full_precision,
    pixel_chunks,
    softmax,
    without_autocast,
)


class _SampleContrast(torch.autograd.Function):
    """Keeps the samples' features, not the (N, M, M) similarities."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ids: Tensor, temperature: float) -> Tensor:
        losses = torch.zeros_like(ids, dtype=full_precision(features.dtype))
        partition = losses.new_empty(len(losses), 2, losses.shape[1])
        for chunk in pixel_chunks(features, other_channels=ids.shape[1]):
            logits = _compare(features, chunk, temperature)
            labels = _label(ids, chunk, logits.dtype)
            own = (labels * logits).sum(1)
            part = partition[:, :, chunk]
            exponentials(logits, part)
            losses[:, chunk] = torch.where(ids[:, chunk] >= 0, cross_entropy(part, own), 0.0)
        ctx.save_for_backward(features, ids, partition)
        ctx.temperature = temperature
        return losses

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, None, None]:
        features, ids, partition = ctx.saved_tensors
        of_losses = gradients[0] / ctx.temperature
        full = features.to(partition.dtype)
        result = torch.zeros_like(full)
        for chunk in pixel_chunks(features, other_channels=ids.shape[1]):
            of_logits = softmax(_compare(features, chunk, ctx.temperature), partition[:, :, chunk])
            of_logits -= _label(ids, chunk, of_logits.dtype)
            of_logits *= of_losses[:, None, chunk]
            # A pair's similarity has a gradient for either of the two.
            result[:, :, chunk] += full @ of_logits
            result.baddbmm_(full[:, :, chunk], of_logits.transpose(1, 2))
        return result.to(features.dtype), None, None


def sample_contrast(features: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """
    Cross-entropy of each sample's similarities to all samples; those of its own mask are right.

    Args:
        features: (N, D, M) float; float16 and bfloat16 are computed in float32.
        ids: (N, M) int64, the mask of each sample; -1 = none: a loss of 0, but the gradient of
            similarities none of which is right, as in DeepLab2.
        temperature: divides the similarities.

    Returns:
        (N, M) float32, or float64 for float64.
    """
    return _SampleContrast.apply(features, ids, temperature)


def _compare(features: Tensor, chunk: slice, temperature: float) -> Tensor:
    """(N, M, m) similarities of all samples to some, over the temperature."""
    features = features.to(full_precision(features.dtype))
    return (features.transpose(1, 2) @ features[:, :, chunk]).div_(temperature)


def _label(ids: Tensor, chunk: slice, dtype: torch.dtype) -> Tensor:
    """(N, M, m) of sum 1 over the samples of each one's mask; 0 without a mask."""
    some = ids[:, None, chunk]
    is_same = ((ids[:, :, None] == some) & (some >= 0)).to(dtype)
    return is_same.div_(is_same.sum(1, keepdim=True).clamp(min=1.0))
