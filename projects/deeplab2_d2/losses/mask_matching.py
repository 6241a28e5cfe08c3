"""Which predicted mask stands for which ground truth mask."""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor

from .dice import similarity_from_areas
from .hungarian import AssignmentSolver, hungarian_matching
from .mask_overlaps import MaskOverlaps
from .mask_targets import MaskTargets

SIMILARITIES = ("product", "sum")
UNMATCHED_WEIGHTS = ("void_ratio", "one")

# Least weight of a term: with 0 the mean over non-zero elements would change its divisor.
_LEAST_WEIGHT = 1e-5


@dataclass(frozen=True)
class MaskMatching:
    """
    A matching of G ground truth masks and K slots, and the weights that follow from it.

    Attributes:
        slots: (N, G) int64, the slot of each mask; -1 for masks that do not exist or, with more
            masks than slots, have none.
        mask_weights: (N, G) float32, of the masks' dice terms: the probability of the right class.
            0 for masks that do not exist.
        class_weights: (N, K) float32, of the slots' class terms.
        class_labels: (N, K, C + 1) float32, of the slots' class terms; the last channel is void.
        class_confidence: (N, G) float32, probability that its slot has of each mask's class; 0 for
            masks without a slot.
        dice: (N, G) float32, of each mask and its slot; 0 for masks without a slot.
    """

    slots: Tensor
    mask_weights: Tensor
    class_weights: Tensor
    class_labels: Tensor
    class_confidence: Tensor
    dice: Tensor


@torch.no_grad()
def match_masks(
    targets: MaskTargets,
    mask_probabilities: Tensor,
    class_logits: Tensor,
    *,
    similarity: str = "product",
    unmatched_weight: str = "void_ratio",
    solver: Optional[AssignmentSolver] = None,
) -> MaskMatching:
    """
    Match masks and slots so that their total similarity is largest, in float32.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 6, 7 and 11. As in DeepLab2 no weight is below
    1e-5.

    Args:
        targets: G masks.
        mask_probabilities: (N, K, P) float, softmax over the slots.
        class_logits: (N, K, C + 1) float, void last.
        similarity: "product" of class probability and dice; or "sum", the ablation of the paper's
            Table 6, which also leaves the weights of matched pairs at 1.
        unmatched_weight: of the class terms of slots without a match: "void_ratio" is the part of
            the slot's mask that lies on void pixels, as in DeepLab2; "one" as in the paper.
        solver: see :func:`hungarian_matching`.

    Raises:
        ValueError: if ``similarity`` or ``unmatched_weight`` is unknown or a cost is not finite.
    """
    with torch.autocast(mask_probabilities.device.type, enabled=False):
        probabilities = mask_probabilities.float()
        labeled = probabilities * targets.is_labeled[:, None]
        overlap = targets.one_hot_masks() @ labeled.transpose(1, 2)
        dice = similarity_from_areas(overlap, targets.areas, labeled.sum(2))
        on_void = (probabilities * ~targets.is_labeled[:, None]).sum(2)
        unmatched = _weigh_unmatched(unmatched_weight, on_void, probabilities.sum(2))
        return _match(targets, dice, unmatched, class_logits.float(), similarity, solver)


@torch.no_grad()
def match_overlaps(
    targets: MaskTargets,
    overlaps: MaskOverlaps,
    class_logits: Tensor,
    *,
    similarity: str = "product",
    unmatched_weight: str = "void_ratio",
    solver: Optional[AssignmentSolver] = None,
) -> MaskMatching:
    """:func:`match_masks` of masks that have been measured by :func:`measure_overlaps`."""
    with torch.autocast(class_logits.device.type, enabled=False):
        labeled_area = overlaps.mask_area.float() + overlaps.crowd_area.float()
        void_area = overlaps.void_area.float()
        dice = similarity_from_areas(overlaps.overlap.float(), targets.areas, labeled_area)
        unmatched = _weigh_unmatched(unmatched_weight, void_area, labeled_area + void_area)
        return _match(targets, dice, unmatched, class_logits.float(), similarity, solver)


def _match(
    targets: MaskTargets,
    dice: Tensor,
    unmatched: Tensor,
    class_logits: Tensor,
    similarity: str,
    solver: Optional[AssignmentSolver],
) -> MaskMatching:
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}")
    exists = targets.exists
    # (N, G, K): probability that a slot has the class of a mask.
    probabilities = class_logits.softmax(2)[:, :, :-1].transpose(1, 2)
    channels = targets.classes.clamp(min=0)[:, :, None].expand_as(dice)
    right_class = probabilities.gather(1, channels)
    is_product = similarity == "product"
    costs = -(dice * right_class if is_product else dice + right_class)
    slots = hungarian_matching(costs, has_row=exists, name="matching costs", solver=solver)
    has_slot = slots >= 0
    chosen = slots.clamp(min=0)[:, :, None]
    class_confidence = right_class.gather(2, chosen)[:, :, 0] * has_slot
    matched_dice = dice.gather(2, chosen)[:, :, 0] * has_slot
    labels, is_positive = _label_slots(targets.classes, slots, class_logits.shape)
    # Masks without a slot go to a place of their own, which is dropped.
    num_slots = class_logits.shape[1]
    slot_dice = dice.new_zeros(len(slots), num_slots + 1)
    weights = matched_dice if is_product else has_slot.float()
    slot_dice.scatter_(1, torch.where(has_slot, slots, num_slots), weights)
    class_weights = torch.where(is_positive, slot_dice[:, :num_slots], unmatched)
    mask_weights = class_confidence if is_product else has_slot.float()
    return MaskMatching(
        slots=torch.where(has_slot, slots, -1),
        mask_weights=mask_weights.clamp(min=_LEAST_WEIGHT) * exists,
        class_weights=class_weights.clamp(min=_LEAST_WEIGHT),
        class_labels=labels,
        class_confidence=class_confidence,
        dice=matched_dice,
    )


def _weigh_unmatched(name: str, void_area: Tensor, area: Tensor) -> Tensor:
    """(N, K) weights of slots without a match, from the areas of their masks."""
    if name not in UNMATCHED_WEIGHTS:
        raise ValueError(f"unmatched_weight must be one of {UNMATCHED_WEIGHTS}, got {name!r}")
    return torch.ones_like(area) if name == "one" else void_area / (area + 1e-5)


def _label_slots(classes: Tensor, slots: Tensor, shape: torch.Size) -> Tuple[Tensor, Tensor]:
    """One-hot labels of the slots, (N, K, C + 1), and (N, K) bool, which of them are matched."""
    num_images, num_slots, num_channels = shape
    # DeepLab2 gives the classes of masks without a slot to slot 0.
    slots = slots.clamp(min=0)
    # Masks that do not exist add 0, to any class.
    exists = (classes >= 0).float()
    places = slots * num_channels + classes.clamp(min=0)
    labels = exists.new_zeros(num_images, num_slots * num_channels)
    labels = labels.scatter_add_(1, places, exists).view(shape)
    is_positive = labels.amax(2) == 1
    labels[:, :, -1] = (~is_positive).float()
    return labels, is_positive
