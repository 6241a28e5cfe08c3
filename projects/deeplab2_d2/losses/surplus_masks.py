"""What to do with an image that has more masks than the network has slots."""

from dataclasses import replace
from typing import Optional, Sequence

import torch
from torch import Tensor

from .mask_targets import MaskTargets

SURPLUS_MASKS = ("unmatched", "largest", "error")


@torch.no_grad()
def limit_masks(
    targets: MaskTargets,
    num_slots: int,
    *,
    surplus: str = "unmatched",
    sources: Optional[Sequence[str]] = None,
) -> MaskTargets:
    """
    Leave at most as many masks as there are slots.

    Args:
        targets: G masks an image, not all of which exist.
        num_slots: K.
        surplus: "unmatched" leaves the targets as they are, and the masks of least similarity
            without a slot, as DeepLab2 does; "largest" keeps the K largest masks of an image (of
            equal ones the first) and makes the pixels of the others void; "error" refuses such
            images, for which a GPU has to be waited for.
        sources: names of the images, for the error.

    Returns:
        Targets of the same G masks.

    Raises:
        ValueError: if ``surplus`` is unknown; for "error" also with index and name of the first
            image that has more than ``num_slots`` masks.
    """
    if surplus not in SURPLUS_MASKS:
        raise ValueError(f"surplus must be one of {SURPLUS_MASKS}, got {surplus!r}")
    if surplus == "unmatched" or targets.classes.shape[1] <= num_slots:
        return targets
    if surplus == "error":
        _check_number(targets, num_slots, sources)
        return targets
    order = targets.areas.argsort(dim=1, descending=True, stable=True)
    is_dropped = torch.zeros_like(targets.exists).scatter(1, order[:, num_slots:], True)
    return _drop(targets, is_dropped)


def _check_number(targets: MaskTargets, num_slots: int, sources: Optional[Sequence[str]]) -> None:
    counts = targets.exists.sum(1).tolist()
    for image, count in enumerate(counts):
        if count > num_slots:
            name = f" ({sources[image]})" if sources else ""
            raise ValueError(
                f"image {image} of the batch{name} has {count} masks, more than the {num_slots} "
                "slots; a surplus of 'largest' (config key MODEL.DEEPLAB2.LOSS.SURPLUS_MASKS) "
                "would drop the smallest masks"
            )


def _drop(targets: MaskTargets, is_dropped: Tensor) -> MaskTargets:
    ids = targets.mask_ids
    is_void = is_dropped.gather(1, ids.clamp(min=0)) & (ids >= 0)
    return replace(
        targets,
        mask_ids=torch.where(is_void, -1, ids),
        classes=torch.where(is_dropped, -1, targets.classes),
        areas=torch.where(is_dropped, 0.0, targets.areas),
        is_labeled=targets.is_labeled & ~is_void,
        is_thing=targets.is_thing & ~is_void,
    )
