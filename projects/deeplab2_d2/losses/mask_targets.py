"""Ground truth masks at the resolution of predicted ones, at most as many as there are slots."""

from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures.tables import cached_table
from .cross_entropy import stride_to_size

# What becomes of an image with more masks than slots; see :func:`limit_masks`.
SURPLUS_MASKS = ("unmatched", "largest", "error")


@dataclass(frozen=True)
class MaskTargets:
    """
    G masks an image: its things, padded to a common number, then one for each stuff class.

    Attributes:
        mask_ids: (N, P) int64, the mask of each of P pixels in [0, G); -1 for void (always) and
            crowds.
        classes: (N, G) int64, the class of each mask as a channel of the class head; -1 if the
            image has no such mask, or none of its pixels is left at this resolution.
        areas: (N, G) float32, pixels.
        is_labeled: (N, P) bool, False on void pixels. Crowds are labeled, but have no mask.
        is_thing: (N, P) bool, True on masks of things.
    """

    mask_ids: Tensor
    classes: Tensor
    areas: Tensor
    is_labeled: Tensor
    is_thing: Tensor

    @property
    def exists(self) -> Tensor:
        """(N, G) bool, whether the image has the mask."""
        return self.classes >= 0

    def one_hot_masks(self) -> Tensor:
        """(N, G, P) float32, 1 where a pixel belongs to a mask."""
        num_masks = self.classes.shape[1]
        indices = torch.arange(num_masks, device=self.mask_ids.device)
        return (self.mask_ids[:, None] == indices[:, None]).float()


def build_mask_targets(
    semantic: Tensor,
    thing_masks: Tensor,
    thing_classes: Tensor,
    *,
    size: Tuple[int, int],
    thing_ids: Sequence[int],
    stuff_ids: Sequence[int],
    ignore_label: int,
) -> MaskTargets:
    """
    Sample labels to the outputs' resolution and join things and stuff.

    Args:
        semantic: (N, H, W) integer class ids or ``ignore_label``.
        thing_masks: (N, H, W) integer: number of the thing that a pixel belongs to, from 0; -1
            elsewhere.
        thing_classes: (N, T) integer: class id of each thing, -1 if there are fewer.
        size: (height, width) of the outputs; H = 1 + s * (height - 1), and W alike.
        thing_ids, stuff_ids: class ids. The class head's channels are the things, then the stuff,
            in this order.
        ignore_label: class id of void pixels.

    Returns:
        Targets of G = T + len(stuff_ids) masks (one, if that is 0) over P = height * width pixels.

    Raises:
        ValueError: if the labels cannot be sampled to ``size`` with a whole stride.
    """
    semantic = stride_to_size(semantic, size).flatten(1).long()
    thing_masks = stride_to_size(thing_masks, size).flatten(1).long()
    num_things = thing_classes.shape[1]
    # At least one, so that a maximum over masks is defined; it does not exist.
    num_masks = max(num_things + len(stuff_ids), 1)
    is_labeled = semantic != ignore_label
    stuff_masks = _look_up(semantic, stuff_ids, first=num_things)
    mask_ids = torch.where(thing_masks >= 0, thing_masks, stuff_masks)
    mask_ids = torch.where(is_labeled, mask_ids, -1)
    # One place more for pixels without a mask.
    areas = torch.zeros(len(mask_ids), num_masks + 1, device=mask_ids.device)
    areas.scatter_add_(1, mask_ids % (num_masks + 1), torch.ones_like(mask_ids, dtype=areas.dtype))
    areas = areas[:, :num_masks]
    channels = _look_up(thing_classes.long(), thing_ids, first=0)
    stuff_channels = torch.arange(len(stuff_ids), device=mask_ids.device) + len(thing_ids)
    classes = torch.cat([channels, stuff_channels.expand(len(mask_ids), -1)], dim=1)
    classes = F.pad(classes, (0, num_masks - classes.shape[1]), value=-1)
    return MaskTargets(
        mask_ids=mask_ids,
        classes=torch.where(areas > 0, classes, -1),
        areas=areas,
        is_labeled=is_labeled,
        is_thing=is_labeled & (thing_masks >= 0),
    )


def _look_up(labels: Tensor, ids: Sequence[int], *, first: int) -> Tensor:
    """The position of each label in ``ids`` plus ``first``; -1 for labels that are not in it."""
    table = _table(tuple(ids), first, labels.device)
    size = len(table) - 1
    is_inside = (labels >= 0) & (labels < size)
    return table[torch.where(is_inside, labels, size)]


@cached_table
def _table(ids: Tuple[int, ...], first: int, device: torch.device) -> Tensor:
    """Position of each id plus ``first``, else -1; the last entry is for labels beyond the ids."""
    table = torch.full((max(ids, default=0) + 2,), -1, dtype=torch.int64)
    table[torch.tensor(ids, dtype=torch.int64)] = first + torch.arange(len(ids))
    return table.to(device)


class SurplusMasksError(ValueError):
    """An image has more masks than there are slots."""


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
        ValueError: if ``surplus`` is unknown.
        SurplusMasksError: for "error", with index and name of the first image that has more than
            ``num_slots`` masks.
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
            raise SurplusMasksError(
                f"image {image} of the batch{name} has {count} masks, more than the {num_slots} "
                "slots; a surplus of 'largest' would drop the smallest masks"
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
