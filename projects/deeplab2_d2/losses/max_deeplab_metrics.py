"""How far the parts of MaX-DeepLab are: the curves of the paper's Fig. 4."""

from typing import Dict, Optional

import torch
from torch import Tensor

from .mask_matching import MaskMatching
from .mask_overlaps import MaskOverlaps
from .mask_targets import MaskTargets
from .mask_terms import slots_of_pixels


@torch.no_grad()
def matching_metrics(
    targets: MaskTargets,
    matching: MaskMatching,
    *,
    mask_logits: Tensor,
    overlaps: Optional[MaskOverlaps] = None,
) -> Dict[str, Tensor]:
    """
    Means over the batch, of what the losses have computed anyway.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. 4 (b), (c) and (e).

    Args:
        targets: G masks over P pixels.
        matching: of the masks and K slots.
        mask_logits: (N, K, P) float.
        overlaps: measured from these; None: the largest logits are looked for.

    Returns:
        Scalars without gradient, 0 where there is nothing to average:
        ``matched_class_confidence`` (probability of the right class) and ``matched_mask_dice``,
        over masks with a slot; ``mask_id_accuracy``, the part of the pixels with a mask whose
        mask's slot has the largest logit.
    """
    num_matched = (matching.slots >= 0).sum()
    slots = slots_of_pixels(matching.slots, targets.mask_ids)
    largest = mask_logits.amax(1) if overlaps is None else overlaps.largest
    own = mask_logits.gather(1, slots.clamp(min=0)[:, None])[:, 0]
    is_right = (slots >= 0) & (own >= largest)
    return {
        "matched_class_confidence": _mean(matching.class_confidence.sum(), num_matched),
        "matched_mask_dice": _mean(matching.dice.sum(), num_matched),
        "mask_id_accuracy": _mean(is_right.sum(), (targets.mask_ids >= 0).sum()),
    }


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
    accuracy = _mean(is_recognised.sum(), targets.is_thing.sum())
    return {"instance_discrimination_accuracy": accuracy}


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return total.float() / count.clamp(min=1)
