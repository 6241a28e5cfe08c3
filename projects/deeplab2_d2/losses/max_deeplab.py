"""The PQ-style loss and the mask-ID loss of MaX-DeepLab."""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor

from .dice import dice_loss_from_areas
from .focal import focal_cross_entropy
from .mask_matching import MaskMatching
from .mask_overlaps import MaskOverlaps, measure_overlaps
from .mask_targets import MaskTargets
from .mask_terms import mask_terms, slots_of_pixels
from .pixel_chunks import check_form
from .slot_cross_entropy import slot_cross_entropy
from .topk import average_top_k, to_full_precision


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
    *,
    alpha: float = 0.75,
    mask_id_top_k: float = 1.0,
    form: str = "lean",
    overlaps: Optional[MaskOverlaps] = None,
) -> MaskLosses:
    """
    The losses of matched masks and slots, without their weights.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 10 to 12 and Sec. 3.4; normalised as DeepLab2
    does: the mask term by the number of slots, the class term by the number of slots with a loss.

    Args:
        mask_logits: (N, K, P) float, over K slots.
        class_logits: (N, K, C + 1) float, void last.
        targets: G masks over the P pixels.
        matching: of these or, for auxiliary outputs, of the main outputs.
        alpha: weight of matched against unmatched slots.
        mask_id_top_k: fraction of an image's pixels that the mask-ID loss keeps.
        form: "lean" works on a part of the pixels at a time and keeps no (N, K, P) tensor but the
            logits; "plain" leaves everything to autograd, and is the specification.
        overlaps: of these logits and targets, if they have been measured; for the lean form.

    Raises:
        ValueError: if ``form`` is neither.
    """
    check_form(form)
    with torch.autocast(mask_logits.device.type, enabled=False):
        class_term = focal_cross_entropy(
            class_logits.transpose(1, 2),
            matching.class_labels.transpose(1, 2),
            matching.class_weights,
            alpha=alpha,
        )
        if form == "lean":
            overlaps = overlaps or measure_overlaps(mask_logits, targets)
            mask_id, overlap, area = mask_terms(mask_logits, targets, matching, overlaps)
        else:
            mask_id, overlap, area = _plain_terms(mask_logits, targets, matching)
        dice_losses = dice_loss_from_areas(overlap, area, targets.areas)
        mask_term = (dice_losses * matching.mask_weights).sum(1)
        return MaskLosses(
            class_term=class_term,
            mask_term=mask_term * (alpha / mask_logits.shape[1]),
            mask_id=average_top_k(mask_id * targets.is_labeled, mask_id_top_k),
        )


def _plain_terms(
    mask_logits: Tensor, targets: MaskTargets, matching: MaskMatching
) -> Tuple[Tensor, Tensor, Tensor]:
    """See :func:`mask_terms`."""
    mask_logits = to_full_precision(mask_logits)
    has_mask = targets.mask_ids >= 0
    pixel_slots = slots_of_pixels(matching.slots, targets.mask_ids)
    mask_id = slot_cross_entropy(mask_logits, pixel_slots, has_mask)
    probabilities = mask_logits.softmax(1) * has_mask[:, None]
    slots = matching.slots.clamp(min=0)
    has_slot = matching.slots >= 0
    predicted_area = probabilities.sum(2).gather(1, slots) * has_slot
    # The probability, at each pixel, of the slot of its own mask.
    own = probabilities.gather(1, pixel_slots.clamp(min=0)[:, None])[:, 0]
    overlap = torch.zeros_like(targets.areas, dtype=own.dtype)
    overlap = overlap.scatter_add(1, targets.mask_ids.clamp(min=0), own)
    return mask_id, overlap * has_slot, predicted_area
