"""Losses that make the features of an instance alike and those of two instances differ."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .cross_entropy import cross_entropy_per_pixel
from .mask_targets import MaskTargets
from .mean_contrast import mean_contrast
from .pixel_chunks import check_form
from .sample_contrast import sample_contrast
from .slot_cross_entropy import ABSENT_LOGIT
from .topk import average_top_k, to_full_precision

_NO_MASK = -1


def instance_discrimination_loss(
    features: Tensor,
    targets: MaskTargets,
    *,
    temperature: float = 0.3,
    top_k_percent: float = 1.0,
    form: str = "lean",
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
        form: "lean" makes the (N, G, P) similarities for a part of the pixels at a time; "plain"
            leaves everything to autograd, and is the specification.

    Returns:
        (N,) mean over the pixels kept.

    Raises:
        ValueError: if ``form`` is neither.
    """
    losses, _ = discriminate_instances(features, targets, temperature=temperature, form=form)
    return average_top_k(losses, top_k_percent)


def discriminate_instances(
    features: Tensor, targets: MaskTargets, *, temperature: float = 0.3, form: str = "lean"
) -> Tuple[Tensor, Tensor]:
    """
    :func:`instance_discrimination_loss` of each pixel, and which pixels are recognised.

    Returns:
        (N, P) float, 0 for pixels without a thing; and (N, P) bool: whether no other mask's mean
        feature is nearer than that of the pixel's own mask, always False without a thing.
    """
    check_form(form)
    labels = torch.where(targets.is_thing, targets.mask_ids, _NO_MASK)
    with torch.autocast(features.device.type, enabled=False):
        if form == "lean":
            return mean_contrast(features, targets, labels, temperature)
        features = to_full_precision(features)
        sums = targets.one_hot_masks().to(features.dtype) @ features.transpose(1, 2)
        means = sums / targets.areas.clamp(min=1.0)[:, :, None]
        logits = (F.normalize(means, dim=2, eps=1e-6) @ features) / temperature
        logits = torch.where(targets.exists[:, :, None], logits, ABSENT_LOGIT)
        losses = cross_entropy_per_pixel(logits, labels, ignore_label=_NO_MASK)
        chosen = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        return losses, (chosen >= logits.amax(1)) & (labels >= 0)


def pixel_contrastive_loss(
    features: Tensor,
    targets: MaskTargets,
    *,
    num_samples: int,
    sample_temperature: float = 0.6,
    temperature: float = 0.3,
    top_k_percent: float = 1.0,
    form: str = "lean",
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
        form: "lean" makes the samples' similarities for a part of them at a time; "plain" leaves
            everything to autograd, and is the specification.

    Returns:
        (N,) mean over the samples kept.

    Raises:
        ValueError: if ``num_samples`` is not in [1, P] or ``form`` is neither.
    """
    check_form(form)
    num_pixels = features.shape[2]
    if not 1 <= num_samples <= num_pixels:
        raise ValueError(
            f"num_samples must be in [1, {num_pixels}], the pixels of the masks (config key "
            f"MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLES), got {num_samples}"
        )
    indices = _sample_pixels(targets, num_samples, sample_temperature)
    ids = targets.mask_ids.gather(1, indices)
    with torch.autocast(features.device.type, enabled=False):
        sampled = features.gather(2, indices[:, None].expand(-1, features.shape[1], -1))
        if form == "lean":
            losses = sample_contrast(sampled, ids, temperature)
        else:
            losses = _plain_sample_contrast(to_full_precision(sampled), ids, temperature)
    return average_top_k(losses, top_k_percent)


def _plain_sample_contrast(features: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """See :func:`sample_contrast`."""
    is_same = ((ids[:, :, None] == ids[:, None, :]) & (ids >= 0)[:, :, None]).to(features.dtype)
    labels = is_same / is_same.sum(2, keepdim=True).clamp(min=1.0)
    similarities = (features.transpose(1, 2) @ features) / temperature
    # Symmetric: the channel axis is the second of either.
    return cross_entropy_per_pixel(similarities, labels.transpose(1, 2))


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
