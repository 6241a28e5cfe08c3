"""Losses that make the features of a mask's pixels alike and those of two masks differ."""

from typing import Any, Dict, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .mask_losses import mean_of
from .mask_targets import MaskTargets
from .pixel_softmax import (
    ABSENT_LOGIT,
    add_at,
    cross_entropy,
    exponentials,
    full_precision,
    one_hot,
    pixel_chunks,
    softmax,
    without_autocast,
)
from .topk import average_top_k

_NO_MASK = -1


def instance_discrimination_loss(
    features: Tensor,
    targets: MaskTargets,
    *,
    temperature: float = 0.3,
    top_k_percent: float = 1.0,
) -> Tensor:
    """
    Each pixel of a thing is to recognise the mean feature of its mask among those of all masks.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 16 and 17. As in DeepLab2 stuff masks take part
    as candidates, but only pixels of things have a loss.

    Args:
        features: (N, D, P) float, of unit length over D.
        targets: G masks over the P pixels.
        temperature: tau, divides the similarities.
        top_k_percent: fraction of an image's pixels to keep, in [0, 1].

    Returns:
        (N,) mean over the pixels kept.
    """
    losses, _ = discriminate_instances(features, targets, temperature=temperature)
    return average_top_k(losses, top_k_percent)


def discriminate_instances(
    features: Tensor, targets: MaskTargets, *, temperature: float = 0.3
) -> Tuple[Tensor, Tensor]:
    """
    :func:`instance_discrimination_loss` of each pixel, and which pixels are recognised.

    Returns:
        (N, P) float, 0 for pixels without a thing; and (N, P) bool: whether no other mask's mean
        feature is nearer than that of the pixel's own mask, always False without a thing.
    """
    labels = torch.where(targets.is_thing, targets.mask_ids, _NO_MASK)
    with torch.autocast(features.device.type, enabled=False):
        return _mean_contrast(features, targets, labels, temperature)


def pixel_contrastive_loss(
    features: Tensor,
    targets: MaskTargets,
    *,
    num_samples: int,
    sample_temperature: float = 0.6,
    temperature: float = 0.3,
    top_k_percent: float = 1.0,
) -> Tensor:
    """
    Sampled pixels are to recognise those of their own mask, things and stuff alike.

    Reference: the pixel-wise contrastive loss of CMT-DeepLab (arXiv:2206.08948), as in DeepLab2.
    Pixels are drawn without replacement, with the Gumbel-top-k trick, in proportion to the inverse
    area of their mask to the power of ``sample_temperature``; void pixels last.

    Args:
        features: (N, D, P) float, of unit length over D.
        targets: masks over the P pixels.
        num_samples: pixels drawn of each image, at most P.
        sample_temperature: above 1 prefers small masks even more.
        temperature: divides the similarities.
        top_k_percent: fraction of the samples to keep, in [0, 1].

    Returns:
        (N,) mean over the samples kept.

    Raises:
        ValueError: if ``num_samples`` is not in [1, P].
    """
    num_pixels = features.shape[2]
    if not 1 <= num_samples <= num_pixels:
        raise ValueError(
            f"num_samples must be in [1, {num_pixels}], the pixels of the masks, got {num_samples}"
        )
    indices = _sample_pixels(targets, num_samples, sample_temperature)
    ids = targets.mask_ids.gather(1, indices)
    with torch.autocast(features.device.type, enabled=False):
        sampled = features.gather(2, indices[:, None].expand(-1, features.shape[1], -1))
        losses = _sample_contrast(sampled, ids, temperature)
    return average_top_k(losses, top_k_percent)


@torch.no_grad()
def _sample_pixels(targets: MaskTargets, num_samples: int, temperature: float) -> Tensor:
    """(N, num_samples) int64 indices of pixels, ascending."""
    area_of_pixel = targets.areas.gather(1, targets.mask_ids.clamp(min=0))
    area_of_pixel = torch.where(targets.mask_ids >= 0, area_of_pixel, 0.0).clamp(min=1.0)
    logits = -temperature * (area_of_pixel / area_of_pixel.shape[1]).log()
    logits = logits + torch.where(targets.is_labeled, 0.0, ABSENT_LOGIT)
    # -log of an exponential variate has the Gumbel distribution.
    gumbel = -torch.empty_like(logits).exponential_().log()
    indices = torch.topk(logits + gumbel, num_samples, dim=1, sorted=False).indices
    # In order, so that with all pixels sampled the loss does not depend on the draw at all.
    return indices.sort(1).values


@torch.no_grad()
def recognition_metric(targets: MaskTargets, is_recognised: Tensor) -> Dict[str, Tensor]:
    """
    ``instance_discrimination_accuracy``: the part of the things' pixels that are recognised.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. 4 (d).

    Args:
        targets: masks over P pixels.
        is_recognised: (N, P) bool, of :func:`discriminate_instances`.

    Returns:
        A scalar without gradient, 0 for a batch without things.
    """
    accuracy = mean_of(is_recognised.sum(), targets.is_thing.sum())
    return {"instance_discrimination_accuracy": accuracy}


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
            logits = _compare_with_means(features[:, :, chunk], directions, exists, temperature)
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
            logits = _compare_with_means(part, directions, exists, ctx.temperature)
            of_logits = softmax(logits, partition[:, :, chunk]).mul_(of_losses[:, None, chunk])
            add_at(of_logits, labels[:, chunk], -of_losses[:, chunk])
            result[:, :, chunk] = directions.transpose(1, 2) @ of_logits
            of_directions.baddbmm_(of_logits, part.transpose(1, 2))
        of_means = _gradient_of_normalization(of_directions, directions, lengths)
        _add_by_mask(result, mask_ids, of_means / areas)
        return result.to(features.dtype), None, None, None, None, None


def _mean_contrast(
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


def _compare_with_means(
    features: Tensor, directions: Tensor, exists: Tensor, temperature: float
) -> Tensor:
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


class _SampleContrast(torch.autograd.Function):
    """Keeps the samples' features, not the (N, M, M) similarities."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ids: Tensor, temperature: float) -> Tensor:
        losses = torch.zeros_like(ids, dtype=full_precision(features.dtype))
        partition = losses.new_empty(len(losses), 2, losses.shape[1])
        for chunk in pixel_chunks(features, other_channels=ids.shape[1]):
            logits = _compare_samples(features, chunk, temperature)
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
            of_logits = softmax(
                _compare_samples(features, chunk, ctx.temperature), partition[:, :, chunk]
            )
            of_logits -= _label(ids, chunk, of_logits.dtype)
            of_logits *= of_losses[:, None, chunk]
            # A pair's similarity has a gradient for either of the two.
            result[:, :, chunk] += full @ of_logits
            result.baddbmm_(full[:, :, chunk], of_logits.transpose(1, 2))
        return result.to(features.dtype), None, None


def _sample_contrast(features: Tensor, ids: Tensor, temperature: float) -> Tensor:
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


def _compare_samples(features: Tensor, chunk: slice, temperature: float) -> Tensor:
    """(N, M, m) similarities of all samples to some, over the temperature."""
    features = features.to(full_precision(features.dtype))
    return (features.transpose(1, 2) @ features[:, :, chunk]).div_(temperature)


def _label(ids: Tensor, chunk: slice, dtype: torch.dtype) -> Tensor:
    """(N, M, m) of sum 1 over the samples of each one's mask; 0 without a mask."""
    some = ids[:, None, chunk]
    is_same = ((ids[:, :, None] == some) & (some >= 0)).to(dtype)
    return is_same.div_(is_same.sum(1, keepdim=True).clamp(min=1.0))
