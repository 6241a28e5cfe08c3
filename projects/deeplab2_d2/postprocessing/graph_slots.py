"""The post-processing of mask slots as a graph; see :mod:`.graph_resizing`."""

from typing import Dict, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..ops import VOID_PANOPTIC_LABEL
from .geometry import Size
from .graph_masks import graph_paste_masks
from .graph_resizing import CHANNELS_AT_ONCE, enlarge_aligned, label_table
from .mask_slots import SlotOptions, things_then_stuff

# Below every logit, and finite: differences with it are numbers.
_LOWEST = -1e30


class _Slots(NamedTuple):
    """Class of each slot, its probability, whether it is a thing, and confident: all (N, S)."""

    category: Tensor
    confidence: Tensor
    is_thing: Tensor
    is_confident: Tensor


class _Pixels(NamedTuple):
    """
    Of all slots the largest logit and its slot; of the confident ones the same, and the sum of
    exponentials relative to the largest: all (N, H, W).
    """

    best: Tensor
    best_slot: Tensor
    largest: Tensor
    slot: Tensor
    total: Tensor


def graph_panoptic_from_mask_slots(
    mask_logits: Tensor,
    class_logits: Tensor,
    stride: int,
    size: Size,
    *,
    thing_ids: Sequence[int],
    label_divisor: int,
    options: SlotOptions,
) -> Dict[str, Tensor]:
    """
    The maps of :func:`panoptic_from_mask_slots`.

    They differ where a probability is a threshold but for rounding, or two masks are as good but
    for it: exponentials are the runtime's.

    Args:
        mask_logits: (N, S, h, w) float.
        class_logits: (N, S, C + 1) float, the last channel void.
        stride: pixels of the image per pixel of the masks, a power of two.
        size: (H, W) of the images, which stand top left in what the masks cover.
        thing_ids, label_divisor: as there.
        options: as there.

    Returns:
        ``panoptic_map`` and ``semantic_map``, (N, H, W) int32, -1 for void.

    Raises:
        ValueError: if masks are pasted and a pixel could be in three.
    """
    slots = _classify(class_logits, thing_ids, options)
    if options.mode == "maskwise":
        best_slot, slot, is_kept, rank = graph_paste_masks(
            mask_logits, slots.confidence, slots.is_confident, stride, size, options
        )
    else:
        best_slot, slot, is_kept = _assign_pixel_wise(mask_logits, slots, stride, size, options)
        rank = torch.arange(mask_logits.shape[1], device=slot.device)
    labels = _label_slots(slots, slot, is_kept, rank + 1, label_divisor, options)
    panoptic = labels.gather(1, slot.flatten(1)).view(slot.shape)
    panoptic = torch.where(is_kept, panoptic, VOID_PANOPTIC_LABEL)
    semantic = slots.category.gather(1, best_slot.flatten(1)).view(slot.shape)
    return {"panoptic_map": panoptic.int(), "semantic_map": semantic.int()}


def _assign_pixel_wise(
    mask_logits: Tensor, slots: _Slots, stride: int, size: Size, options: SlotOptions
) -> Tuple[Tensor, Tensor, Tensor]:
    """The slot of the largest logit, the slot of each pixel and whether it has the pixel."""
    pixels = _assign(mask_logits, slots.is_confident, stride, size)
    # Where no slot is confident the sum is 0, and no quotient is above a threshold.
    confidence = torch.where(pixels.total > 0, 1.0 / pixels.total, 0.0)
    is_kept = (confidence > options.mask_confidence_threshold) & (pixels.largest == pixels.best)
    return pixels.best_slot, pixels.slot, is_kept


def _classify(class_logits: Tensor, thing_ids: Sequence[int], options: SlotOptions) -> _Slots:
    classes = things_then_stuff(class_logits.shape[2] - 1, thing_ids)
    # In float64, as the operator, so that a threshold decides alike.
    probability = class_logits.double().softmax(dim=2).float()
    channel = class_logits[:, :, :-1].argmax(dim=2)
    confidence = probability.gather(2, channel[:, :, None])[:, :, 0]
    is_thing = label_table(tuple(int(c in thing_ids) for c in classes), channel) > 0
    of_things, of_stuff = (confidence >= limit for limit in options.class_thresholds)
    is_confident = (is_thing & of_things) | (~is_thing & of_stuff)
    return _Slots(label_table(classes, channel), confidence, is_thing, is_confident)


def _assign(mask_logits: Tensor, is_confident: Tensor, stride: int, size: Size) -> _Pixels:
    """A few slots at a time, so that the enlarged maps of all are never in memory."""
    pixels = None
    for first in range(0, mask_logits.shape[1], CHANNELS_AT_ONCE):
        chunk = slice(first, first + CHANNELS_AT_ONCE)
        values = enlarge_aligned(mask_logits[:, chunk], stride, size)
        part = _assign_to_some(values, is_confident[:, chunk, None, None], first)
        pixels = part if pixels is None else _join(pixels, part)
    assert pixels is not None
    return pixels


def _assign_to_some(values: Tensor, is_counted: Tensor, first: int) -> _Pixels:
    best, best_slot = values.max(dim=1)
    counted = torch.where(is_counted, values, _LOWEST)
    largest, slot = counted.max(dim=1)
    total = torch.where(is_counted, (counted - largest[:, None]).exp(), 0.0).sum(dim=1)
    return _Pixels(best, best_slot + first, largest, slot + first, total)


def _join(before: _Pixels, after: _Pixels) -> _Pixels:
    """Of equal logits the first has the pixel."""
    best, best_slot = _larger((before.best, before.best_slot), (after.best, after.best_slot))
    largest, slot = _larger((before.largest, before.slot), (after.largest, after.slot))
    total = before.total * (before.largest - largest).exp()
    total = total + after.total * (after.largest - largest).exp()
    return _Pixels(best, best_slot, largest, slot, total)


def _larger(before: Tuple[Tensor, Tensor], after: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]:
    is_larger = after[0] > before[0]
    return (
        torch.where(is_larger, after[0], before[0]),
        torch.where(is_larger, after[1], before[1]),
    )


def _label_slots(
    slots: _Slots,
    slot: Tensor,
    is_kept: Tensor,
    number: Tensor,
    label_divisor: int,
    options: SlotOptions,
) -> Tensor:
    """(N, S) panoptic label of each slot's pixels; -1 where its segment is too small."""
    area = torch.zeros_like(slots.category)
    area = area.scatter_add(1, slot.flatten(1), is_kept.flatten(1).to(area.dtype))
    # Slots of one stuff class are one segment: S x S, of which the other slots are summed.
    joins = (slots.category[:, :, None] == slots.category[:, None]) & ~slots.is_thing[:, None]
    stuff_area = torch.where(joins, area[:, None], 0).sum(dim=2)
    thing = slots.category * label_divisor + number
    thing = torch.where(area >= options.thing_area_limit, thing, VOID_PANOPTIC_LABEL)
    stuff = slots.category * label_divisor
    stuff = torch.where(stuff_area >= options.stuff_area_limit, stuff, VOID_PANOPTIC_LABEL)
    return torch.where(slots.is_thing, thing, stuff)
