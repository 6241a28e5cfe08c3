"""Losses of matched masks: class, dice and mask-ID, and how far the matching is."""

from dataclasses import dataclass
from typing import Any, Dict, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dice import dice_loss_from_areas
from .focal import focal_cross_entropy
from .mask_matching import MaskMatching, MaskOverlaps
from .mask_targets import MaskTargets
from .pixel_softmax import add_at, loss_of_slots, pixel_chunks, softmax, without_autocast
from .topk import average_top_k


@dataclass(frozen=True)
class MaskLosses:
    """
    Attributes:
        class_term, mask_term: (N,) the two terms of the PQ-style loss, balanced by alpha.
        mask_id: (N,) mask-ID cross-entropy.
    """

    class_term: Tensor
    mask_term: Tensor
    mask_id: Tensor


def mask_losses(
    mask_logits: Tensor,
    class_logits: Tensor,
    targets: MaskTargets,
    matching: MaskMatching,
    overlaps: MaskOverlaps,
    *,
    alpha: float = 0.75,
    mask_id_top_k: float = 1.0,
) -> MaskLosses:
    """
    The losses of matched masks and slots, without their weights.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 10 to 12 and Sec. 3.4; normalised as DeepLab2
    does: the mask term by the number of slots, the class term by the number of slots with a loss.
    No (N, K, P) tensor is kept but the logits.

    Args:
        mask_logits: (N, K, P) float, over K slots.
        class_logits: (N, K, C + 1) float, void last.
        targets: G masks over the P pixels.
        matching: of these or, for auxiliary outputs, of the main outputs.
        overlaps: of these logits and targets.
        alpha: weight of matched against unmatched slots.
        mask_id_top_k: fraction of an image's pixels that the mask-ID loss keeps.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        class_term = focal_cross_entropy(
            class_logits.transpose(1, 2),
            matching.class_labels.transpose(1, 2),
            matching.class_weights,
            alpha=alpha,
        )
        mask_id, overlap, area = mask_terms(mask_logits, targets, matching, overlaps)
        dice_losses = dice_loss_from_areas(overlap, area, targets.areas)
        mask_term = (dice_losses * matching.mask_weights).sum(1)
        return MaskLosses(
            class_term=class_term,
            mask_term=mask_term * (alpha / mask_logits.shape[1]),
            mask_id=average_top_k(mask_id * targets.is_labeled, mask_id_top_k),
        )


@torch.no_grad()
def matching_metrics(
    targets: MaskTargets,
    matching: MaskMatching,
    *,
    mask_logits: Tensor,
    overlaps: MaskOverlaps,
) -> Dict[str, Tensor]:
    """
    Means over the batch, of what the losses have computed anyway.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. 4 (b), (c) and (e).

    Args:
        targets: G masks over P pixels.
        matching: of the masks and K slots.
        mask_logits: (N, K, P) float.
        overlaps: measured from these.

    Returns:
        Scalars without gradient, 0 where there is nothing to average:
        ``matched_class_confidence`` (probability of the right class) and ``matched_mask_dice``,
        over masks with a slot; ``mask_id_accuracy``, the part of the pixels with a mask whose
        mask's slot has the largest logit.
    """
    num_matched = (matching.slots >= 0).sum()
    slots = slots_of_pixels(matching.slots, targets.mask_ids)
    own = mask_logits.gather(1, slots.clamp(min=0)[:, None])[:, 0]
    is_right = (slots >= 0) & (own >= overlaps.largest)
    return {
        "matched_class_confidence": mean_of(matching.class_confidence.sum(), num_matched),
        "matched_mask_dice": mean_of(matching.dice.sum(), num_matched),
        "mask_id_accuracy": mean_of(is_right.sum(), (targets.mask_ids >= 0).sum()),
    }


def mean_of(total: Tensor, count: Tensor) -> Tensor:
    """A sum over a count as a scalar; 0 where there is nothing to average."""
    return total.float() / count.clamp(min=1)


class _MaskTerms(torch.autograd.Function):
    """Keeps the logits and maps of one channel; the backward pass computes the softmax anew."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        slots: Tensor,
        mask_ids: Tensor,
        overlap: Tensor,
        partition: Tensor,
    ) -> Tuple[Tensor, Tensor, Tensor]:
        has_mask = mask_ids >= 0
        pixel_slots = slots_of_pixels(slots, mask_ids)
        ctx.save_for_backward(logits, slots, mask_ids, partition)
        mask_id = loss_of_slots(logits, partition, pixel_slots, has_mask)
        places = slots.clamp(min=0)
        own = overlap.gather(2, places[:, :, None])[:, :, 0]
        area = overlap.sum(1).gather(1, places)
        return mask_id, torch.where(slots >= 0, own, 0.0), torch.where(slots >= 0, area, 0.0)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, None, None, None, None]:
        logits, slots, mask_ids, partition = ctx.saved_tensors
        of_mask_id, of_overlap, of_area = gradients
        num_images, num_slots = logits.shape[:2]
        pixel_slots = slots_of_pixels(slots, mask_ids)
        has_slot, pixel_slots = pixel_slots >= 0, pixel_slots.clamp(min=0)
        # Slots without a mask have no gradient; masks without a slot share a place that is dropped.
        of_slot = of_area.new_zeros(num_images, num_slots + 1)
        of_slot.scatter_(1, torch.where(slots >= 0, slots, num_slots), of_area)
        of_slot = of_slot[:, None, :num_slots]
        of_own = torch.where(has_slot, of_overlap.gather(1, mask_ids.clamp(min=0)), 0.0)
        has_mask = (mask_ids >= 0).to(partition.dtype)
        result = torch.empty_like(logits)
        for chunk in pixel_chunks(logits):
            part = softmax(logits[:, :, chunk], partition[:, :, chunk])
            own = part.gather(1, pixel_slots[:, None, chunk])[:, 0]
            on_mask = has_mask[:, None, chunk]
            # The gradient of a softmax s: s * (g - sum of s * g), and s for the cross-entropy.
            mean = ((of_slot @ part) * on_mask)[:, 0] + of_own[:, chunk] * own
            of_probability = of_slot.transpose(1, 2) * on_mask
            of_probability += (of_mask_id[:, chunk] - mean)[:, None]
            part *= of_probability
            chosen = of_own[:, chunk] * own - of_mask_id[:, chunk] * has_slot[:, chunk]
            add_at(part, pixel_slots[:, chunk], chosen)
            result[:, :, chunk] = part
        return result, None, None, None, None


def mask_terms(
    mask_logits: Tensor, targets: MaskTargets, matching: MaskMatching, overlaps: MaskOverlaps
) -> Tuple[Tensor, Tensor, Tensor]:
    """
    Args:
        mask_logits: (N, K, P) float.
        targets: G masks over the P pixels.
        matching: of masks and slots.
        overlaps: measured from these logits and targets.

    Returns:
        (N, P) :func:`slot_cross_entropy` of each pixel's mask; (N, G) overlap of each mask with its
        slot, and (N, G) area of that slot over pixels with a mask, both 0 for masks without a slot.
        All have gradients for the logits.
    """
    return _MaskTerms.apply(
        mask_logits, matching.slots, targets.mask_ids, overlaps.overlap, overlaps.partition
    )


def slots_of_pixels(slots: Tensor, mask_ids: Tensor) -> Tensor:
    """(N, P) the slot of each pixel's mask, from (N, G) slots; -1 without mask or slot."""
    return torch.where(mask_ids >= 0, slots.gather(1, mask_ids.clamp(min=0)), -1)
