"""Instance discrimination with a gradient that needs little memory."""

from typing import Any, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .mask_targets import MaskTargets
from .pixel_chunks import (
    add_at,
    cross_entropy,
    exponentials,
    full_precision,
    one_hot,
    pixel_chunks,
    softmax,
    without_autocast,
)
from .slot_cross_entropy import ABSENT_LOGIT

# Least length of a mean feature, to divide by.
_LEAST_LENGTH = 1e-6


class _MeanContrast(torch.autograd.Function):
    """Keeps the features, the masks' means and maps of one channel."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        labels: Tensor,
        mask_ids: Tensor,
        areas: Tensor,
        exists: Tensor,
        temperature: float,
    ) -> Tuple[Tensor, Tensor]:
        areas = areas.to(full_precision(features.dtype)).clamp(min=1.0)[:, :, None]
        means = _sum_by_mask(features, mask_ids, areas) / areas
        lengths = torch.linalg.vector_norm(means, dim=2, keepdim=True)
        directions = means / lengths.clamp(min=_LEAST_LENGTH)
        losses = torch.zeros_like(labels, dtype=means.dtype)
        partition = losses.new_empty(len(losses), 2, losses.shape[1])
        is_right = torch.zeros_like(labels, dtype=torch.bool)
        for chunk in pixel_chunks(features, other_channels=exists.shape[1]):
            logits = _compare(features[:, :, chunk], directions, exists, temperature)
            own = logits.gather(1, labels[:, None, chunk].clamp(min=0))[:, 0]
            part = partition[:, :, chunk]
            exponentials(logits, part)
            has_label = labels[:, chunk] >= 0
            losses[:, chunk] = torch.where(has_label, cross_entropy(part, own), 0.0)
            is_right[:, chunk] = has_label & (own >= part[:, 0])
        ctx.save_for_backward(
            features, labels, mask_ids, areas, exists, lengths, directions, partition
        )
        ctx.temperature = temperature
        ctx.mark_non_differentiable(is_right)
        return losses, is_right

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, None, None, None, None, None]:
        features, labels, mask_ids, areas, exists, lengths, directions, partition = (
            ctx.saved_tensors
        )
        of_losses = torch.where(labels >= 0, gradients[0], 0.0) / ctx.temperature
        labels = labels.clamp(min=0)
        of_directions = torch.zeros_like(directions)
        result = torch.empty_like(features, dtype=directions.dtype)
        for chunk in pixel_chunks(features, other_channels=exists.shape[1]):
            part = features[:, :, chunk].to(directions.dtype)
            logits = _compare(part, directions, exists, ctx.temperature)
            of_logits = softmax(logits, partition[:, :, chunk]).mul_(of_losses[:, None, chunk])
            add_at(of_logits, labels[:, chunk], -of_losses[:, chunk])
            result[:, :, chunk] = directions.transpose(1, 2) @ of_logits
            of_directions.baddbmm_(of_logits, part.transpose(1, 2))
        of_means = _gradient_of_normalization(of_directions, directions, lengths)
        _add_by_mask(result, mask_ids, of_means / areas)
        return result.to(features.dtype), None, None, None, None, None


def mean_contrast(
    features: Tensor, targets: MaskTargets, labels: Tensor, temperature: float
) -> Tuple[Tensor, Tensor]:
    """
    Cross-entropy of each pixel's similarities to the masks' mean features, made unit vectors.

    Args:
        features: (N, D, P) float; float16 and bfloat16 are computed in float32.
        targets: G masks over the P pixels.
        labels: (N, P) int64, the mask that a pixel has to recognise; -1 = none.
        temperature: divides the similarities.

    Returns:
        (N, P) losses, 0 without a label; and (N, P) bool, whether no other mask is more similar.
    """
    return _MeanContrast.apply(
        features, labels, targets.mask_ids, targets.areas, targets.exists, temperature
    )


def _compare(features: Tensor, directions: Tensor, exists: Tensor, temperature: float) -> Tensor:
    """(N, G, P) similarities over the temperature; a constant for masks that do not exist."""
    logits = (directions @ features.to(directions.dtype)).div_(temperature)
    return logits.masked_fill_(~exists[:, :, None], ABSENT_LOGIT)


def _sum_by_mask(features: Tensor, mask_ids: Tensor, areas: Tensor) -> Tensor:
    """(N, G, D) sums of the features of each mask."""
    num_images, num_masks = areas.shape[:2]
    sums = areas.new_zeros(num_images, num_masks, features.shape[1])
    for chunk in pixel_chunks(features, other_channels=num_masks):
        masks = one_hot(mask_ids[:, chunk], num_masks, sums.dtype)
        sums.baddbmm_(masks, features[:, :, chunk].to(sums.dtype).transpose(1, 2))
    return sums


def _add_by_mask(maps: Tensor, mask_ids: Tensor, values: Tensor) -> None:
    """Add to (N, D, P) maps at each pixel of a mask its (N, G, D) value, in place."""
    # A mask more, of value 0, for pixels without one.
    values = torch.cat([values, torch.zeros_like(values[:, :1])], dim=1)
    places = torch.where(mask_ids >= 0, mask_ids, values.shape[1] - 1)
    for chunk in pixel_chunks(maps):
        for image in range(len(maps)):
            maps[image, :, chunk] += values[image].t()[:, places[image, chunk]]


def _gradient_of_normalization(gradient: Tensor, directions: Tensor, lengths: Tensor) -> Tensor:
    """Of ``v / max(|v|, least)`` for v, from its value and |v|."""
    along = (gradient * directions).sum(2, keepdim=True) * directions
    along = torch.where(lengths > _LEAST_LENGTH, along, 0.0)
    return (gradient - along) / lengths.clamp(min=_LEAST_LENGTH)
