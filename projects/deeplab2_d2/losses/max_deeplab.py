"""The PQ-style loss and the mask-ID loss of MaX-DeepLab."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .dice import dice_loss_from_areas
from .focal import focal_cross_entropy
from .mask_matching import MaskMatching
from .mask_targets import MaskTargets
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
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        mask_logits = to_full_precision(mask_logits)
        class_term = focal_cross_entropy(
            class_logits.transpose(1, 2),
            matching.class_labels.transpose(1, 2),
            matching.class_weights,
            alpha=alpha,
        )
        has_mask = targets.mask_ids >= 0
        slots = matching.slots.gather(1, targets.mask_ids.clamp(min=0))
        slots = torch.where(has_mask, slots, -1)
        mask_id = slot_cross_entropy(mask_logits, slots, has_mask) * targets.is_labeled
        return MaskLosses(
            class_term=class_term,
            mask_term=_mask_term(mask_logits, targets, matching) * (alpha / mask_logits.shape[1]),
            mask_id=average_top_k(mask_id, mask_id_top_k),
        )


def _mask_term(mask_logits: Tensor, targets: MaskTargets, matching: MaskMatching) -> Tensor:
    """(N,) dice losses of the masks that exist, weighed by their classes' probabilities."""
    has_mask = (targets.mask_ids >= 0)[:, None]
    probabilities = mask_logits.softmax(1) * has_mask
    slots = matching.slots.clamp(min=0)
    has_slot = matching.slots >= 0
    predicted_area = probabilities.sum(2).gather(1, slots) * has_slot
    # The probability, at each pixel, of the slot of its own mask.
    mask_ids = targets.mask_ids.clamp(min=0)
    own = probabilities.gather(1, slots.gather(1, mask_ids)[:, None])[:, 0]
    overlap = torch.zeros_like(targets.areas, dtype=own.dtype).scatter_add(1, mask_ids, own)
    losses = dice_loss_from_areas(overlap * has_slot, predicted_area, targets.areas)
    return (losses * matching.mask_weights).sum(1)
