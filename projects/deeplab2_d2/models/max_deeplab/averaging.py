"""How mask slots of several views are brought into one order."""

from functools import partial

import torch
from torch import Tensor

from ...losses import hungarian_matching
from ...records import Averaging
from ...structures import Prediction

# Added to the areas, so that two empty masks have nothing in common.
_EPSILON = 1e-5


def slot_averaging(key: str) -> Averaging:
    """
    How models with mask slots are averaged: at the size of the masks, slot by slot.

    Args:
        key: of the config, that decides the number of slots.
    """
    # At the size of the input K masks would take much memory.
    return Averaging(at_input_size=False, align=partial(align_slots, key=key))


def align_slots(first: Prediction, other: Prediction, *, key: str) -> Prediction:
    """
    A view's slots in the order of the first view's.

    The same slot may stand for another object in another view. So each view's slots are matched
    with those of the first, by the similarity of MaX-DeepLab's own matching (arXiv:2012.00759,
    Eq. 6: agreement of the classes, void left out, times dice).

    Args:
        first, other: ``mask_logits`` (N, K, h, w), ``class_logits`` (N, K, C + 1) and what else
            there is, all of them as probabilities.
        key: of the config, that decides the number of slots.

    Raises:
        ValueError: if the numbers of slots differ.
    """
    expected, found = first["mask_logits"].shape[1], other["mask_logits"].shape[1]
    if found != expected:
        raise ValueError(
            "models that are averaged must have the same number of mask slots (config key "
            f"{key}), got {expected} and {found}"
        )
    order = match_slots(
        first["mask_logits"], first["class_logits"], other["mask_logits"], other["class_logits"]
    )
    reordered = {name: _reorder(other[name], order) for name in ("mask_logits", "class_logits")}
    return {**other, **reordered}


def match_slots(
    masks: Tensor, classes: Tensor, other_masks: Tensor, other_classes: Tensor
) -> Tensor:
    """
    The slot of another view that goes with each slot.

    Args:
        masks, other_masks: (N, K, h, w) probabilities.
        classes, other_classes: (N, K, C + 1) probabilities, void last.

    Returns:
        (N, K) int64, a permutation of each image's slots.
    """
    masks, other_masks = masks.flatten(2), other_masks.flatten(2)
    overlap = masks @ other_masks.transpose(1, 2)
    areas = masks.sum(2)[:, :, None] + other_masks.sum(2)[:, None, :]
    agreement = classes[..., :-1] @ other_classes[..., :-1].transpose(1, 2)
    similarity = 2.0 * overlap / (areas + _EPSILON) * agreement
    return hungarian_matching(-similarity, name="costs of matching the slots of two views")


def _reorder(values: Tensor, order: Tensor) -> Tensor:
    index = order.view(order.shape + (1,) * (values.dim() - 2)).expand_as(values)
    return torch.gather(values, 1, index)
