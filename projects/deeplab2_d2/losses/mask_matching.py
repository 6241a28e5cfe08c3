"""How predicted masks overlap ground truth masks, and which stands for which."""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor

from ..ops import linear_assignment
from .dice import similarity_from_areas
from .mask_targets import MaskTargets
from .pixel_softmax import exponentials, full_precision, one_hot, pixel_chunks

SIMILARITIES = ("product", "sum")
UNMATCHED_WEIGHTS = ("void_ratio", "one")

# Least weight of a term: with 0 the mean over non-zero elements would change its divisor.
_LEAST_WEIGHT = 1e-5


@dataclass(frozen=True)
class MaskOverlaps:
    """
    Sums of the masks' probabilities (softmax over K slots), float32 or float64.

    Attributes:
        overlap: (N, G, K) over the pixels of each ground truth mask.
        crowd_area: (N, K) over labeled pixels without a mask.
        void_area: (N, K) over void pixels.
        partition: (N, 2, P) of the slots' logits at each pixel, see :func:`measure_partition`.
    """

    overlap: Tensor
    crowd_area: Tensor
    void_area: Tensor
    partition: Tensor

    @property
    def largest(self) -> Tensor:
        """(N, P) the largest logit of each pixel."""
        return self.partition[:, 0]

    @property
    def mask_area(self) -> Tensor:
        """(N, K) over pixels with a mask."""
        return self.overlap.sum(1)


@torch.no_grad()
def measure_overlaps(mask_logits: Tensor, targets: MaskTargets) -> MaskOverlaps:
    """
    Args:
        mask_logits: (N, K, P) float; float16 and bfloat16 are computed in float32.
        targets: G masks over the P pixels.
    """
    num_masks = targets.classes.shape[1]
    # Two more rows take the pixels without a mask.
    other = torch.where(targets.is_labeled, num_masks, num_masks + 1)
    rows = torch.where(targets.mask_ids >= 0, targets.mask_ids, other)
    dtype = full_precision(mask_logits.dtype)
    partition = mask_logits.new_empty((len(rows), 2, rows.shape[1]), dtype=dtype)
    sums = partition.new_zeros(len(rows), num_masks + 2, mask_logits.shape[1])
    with torch.autocast(mask_logits.device.type, enabled=False):
        for chunk in pixel_chunks(mask_logits, other_channels=num_masks + 2):
            values, total = exponentials(mask_logits[:, :, chunk], partition[:, :, chunk])
            values /= total[:, None]
            sums.baddbmm_(one_hot(rows[:, chunk], num_masks + 2, dtype), values.transpose(1, 2))
    return MaskOverlaps(
        overlap=sums[:, :num_masks],
        crowd_area=sums[:, num_masks],
        void_area=sums[:, num_masks + 1],
        partition=partition,
    )


def hungarian_matching(
    costs: Tensor, *, has_row: Optional[Tensor] = None, name: str = "costs"
) -> Tensor:
    """
    Assign each row a column of its own so that the sum of the costs is least.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 7. Nothing leaves the device of the costs.

    Args:
        costs: (N, R, C) float, finite. No gradient passes through.
        has_row: (N, R) bool, False for padding, whose costs may be anything; None: all rows.
        name: of the tensor, for the error.

    Returns:
        (N, R) int64 on the device of ``costs``: the column of each row, all different; -1 for
        padding and for rows without a column, of which there are R - C if R is greater than C. (A
        GPU, which cannot raise an error without waiting, returns another negative number for all
        rows of an image whose costs are not finite.)

    Raises:
        ValueError: if ``costs`` is not (N, R, C), or if a value is not finite and the costs are on
            the host.
    """
    if costs.dim() != 3:
        raise ValueError(f"{name} must be (N, R, C), got {tuple(costs.shape)}")
    costs = costs.detach()
    if costs.device.type == "cpu":
        _check_finite(costs, has_row, name)
    return linear_assignment(costs, has_row=has_row)


def _check_finite(costs: Tensor, has_row: Optional[Tensor], name: str) -> None:
    is_finite = torch.isfinite(costs).all(2)
    is_finite = is_finite if has_row is None else is_finite | ~has_row
    if not is_finite.all():
        first = int((~is_finite).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, but those of image {first} are not")


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
    overlaps: MaskOverlaps,
    class_logits: Tensor,
    *,
    similarity: str = "product",
    unmatched_weight: str = "void_ratio",
) -> MaskMatching:
    """
    Match masks and slots so that their total similarity is largest, in float32.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 6, 7 and 11. As in DeepLab2 no weight is below
    1e-5.

    Args:
        targets: G masks.
        overlaps: of the slots' masks with them.
        class_logits: (N, K, C + 1) float, void last.
        similarity: "product" of class probability and dice; or "sum", the ablation of the paper's
            Table 6, which also leaves the weights of matched pairs at 1.
        unmatched_weight: of the class terms of slots without a match: "void_ratio" is the part of
            the slot's mask that lies on void pixels, as in DeepLab2; "one" as in the paper.

    Raises:
        ValueError: if ``similarity`` or ``unmatched_weight`` is unknown or a cost is not finite.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}")
    with torch.autocast(class_logits.device.type, enabled=False):
        labeled_area = overlaps.mask_area.float() + overlaps.crowd_area.float()
        void_area = overlaps.void_area.float()
        dice = similarity_from_areas(overlaps.overlap.float(), targets.areas, labeled_area)
        unmatched = _weigh_unmatched(unmatched_weight, void_area, labeled_area + void_area)
        return _match(targets, dice, unmatched, class_logits.float(), similarity)


def _match(
    targets: MaskTargets,
    dice: Tensor,
    unmatched: Tensor,
    class_logits: Tensor,
    similarity: str,
) -> MaskMatching:
    exists = targets.exists
    # (N, G, K): probability that a slot has the class of a mask.
    probabilities = class_logits.softmax(2)[:, :, :-1].transpose(1, 2)
    channels = targets.classes.clamp(min=0)[:, :, None].expand_as(dice)
    right_class = probabilities.gather(1, channels)
    is_product = similarity == "product"
    costs = -(dice * right_class if is_product else dice + right_class)
    slots = hungarian_matching(costs, has_row=exists, name="matching costs")
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
