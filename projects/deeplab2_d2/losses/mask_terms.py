"""The pixels' part of MaX-DeepLab's mask losses, with a gradient that needs little memory."""

from typing import Any, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .mask_matching import MaskMatching
from .mask_overlaps import MaskOverlaps
from .mask_targets import MaskTargets
from .pixel_chunks import add_at, pixel_chunks, softmax, without_autocast
from .slot_cross_entropy import loss_of_slots


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
