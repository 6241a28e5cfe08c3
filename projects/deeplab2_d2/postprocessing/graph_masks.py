"""
Masks pasted one after the other as a graph; see :mod:`.graph_resizing`.

No more than two probabilities of a pixel are above a third, so every pixel is in the masks of at
most the two slots of its largest logits. How many pixels any two masks share is an (S, S) table,
and the order of pasting is gone through in that table, not in the image.
"""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from ..ops.slots import SMALLEST_MASK_THRESHOLD
from .geometry import Size
from .graph_resizing import CHANNELS_AT_ONCE, enlarge_aligned
from .mask_slots import SlotOptions

# Below every logit, and finite: differences with it are numbers.
_LOWEST = -1e30
# Probabilities are summed as integers of 2**-24, so that sums do not depend on the order.
_PROBABILITY_SCALE = 2.0**24


class PastedMasks(NamedTuple):
    """
    Of each pixel the slot of the largest logit, the slot whose mask was pasted there and whether
    there is one, (N, H, W); of each slot its place in the order of pasting, (N, S).
    """

    best_slot: Tensor
    slot: Tensor
    is_kept: Tensor
    rank: Tensor


class _TwoSlots(NamedTuple):
    """The two largest logits of a pixel, their slots, and the sum of exponentials: (N, H, W)."""

    largest: Tensor
    slot: Tensor
    second: Tensor
    second_slot: Tensor
    total: Tensor


class _Masks(NamedTuple):
    """The slots of a pixel's largest logits, and whether the pixel is in their masks: (N, H, W)."""

    slots: Tuple[Tensor, Tensor]
    is_in: Tuple[Tensor, Tensor]


def graph_paste_masks(
    mask_logits: Tensor,
    confidence: Tensor,
    is_confident: Tensor,
    stride: int,
    size: Size,
    options: SlotOptions,
) -> PastedMasks:
    """
    Mask after mask, the best first, each on what is free, as :func:`panoptic_from_mask_slots` does.

    Args:
        mask_logits: (N, S, h, w) float; S is no symbol.
        confidence: (N, S) float32, of each slot's class.
        is_confident: (N, S) bool; other masks are not pasted.
        stride, size: as :func:`enlarge_aligned`.
        options: of mode "maskwise".

    Raises:
        ValueError: if a pixel could be in three masks.
    """
    threshold = options.mask_confidence_threshold
    if threshold < SMALLEST_MASK_THRESHOLD:
        raise ValueError(
            f"mask_confidence_threshold must be at least {SMALLEST_MASK_THRESHOLD} to paste masks, "
            f"got {threshold}"
        )
    rank = _rank_slots(mask_logits, confidence, stride, size, options)
    pixels = _two_largest(mask_logits, stride, size)
    masks = _masks(pixels, threshold)
    is_pasted = _paste(masks, is_confident, rank, options.overlap_threshold)
    num_slots = mask_logits.shape[1]
    places = []
    for slot, is_in in zip(masks.slots, masks.is_in):
        place = torch.where(is_pasted, rank, num_slots).gather(1, slot.flatten(1)).view(slot.shape)
        places.append(torch.where(is_in, place, num_slots))
    slot = torch.where(places[1] < places[0], masks.slots[1], masks.slots[0])
    is_kept = torch.minimum(places[0], places[1]) < num_slots
    return PastedMasks(pixels.slot, slot, is_kept, rank)


def _two_largest(mask_logits: Tensor, stride: int, size: Size) -> _TwoSlots:
    """A few slots at a time, so that the enlarged maps of all are never in memory."""
    pixels = None
    for first in range(0, mask_logits.shape[1], CHANNELS_AT_ONCE):
        values = enlarge_aligned(mask_logits[:, first : first + CHANNELS_AT_ONCE], stride, size)
        largest, slot = values.max(dim=1)
        total = (values - largest[:, None]).exp().sum(dim=1)
        numbers = torch.arange(values.shape[1], device=values.device)[:, None, None]
        second, second_slot = torch.where(numbers == slot[:, None], _LOWEST, values).max(dim=1)
        part = _TwoSlots(largest, slot + first, second, second_slot + first, total)
        pixels = part if pixels is None else _join(pixels, part)
    assert pixels is not None
    return pixels


def _join(before: _TwoSlots, after: _TwoSlots) -> _TwoSlots:
    """Of equal logits the first is the largest."""
    is_after = after.largest > before.largest
    largest = torch.where(is_after, after.largest, before.largest)
    slot = torch.where(is_after, after.slot, before.slot)
    # The second is the winner's second or the largest of the other.
    own = torch.where(is_after, after.second, before.second)
    own_slot = torch.where(is_after, after.second_slot, before.second_slot)
    other = torch.where(is_after, before.largest, after.largest)
    other_slot = torch.where(is_after, before.slot, after.slot)
    is_other = other > own
    total = before.total * (before.largest - largest).exp()
    total = total + after.total * (after.largest - largest).exp()
    return _TwoSlots(
        largest,
        slot,
        torch.where(is_other, other, own),
        torch.where(is_other, other_slot, own_slot),
        total,
    )


def _probabilities(pixels: _TwoSlots) -> Tuple[Tensor, Tensor]:
    second = (pixels.second - pixels.largest).exp() / pixels.total
    return 1.0 / pixels.total, second


def _masks(pixels: _TwoSlots, threshold: float) -> _Masks:
    first, second = _probabilities(pixels)
    return _Masks((pixels.slot, pixels.second_slot), (first > threshold, second > threshold))


def _sum_by_slot(slot: Tensor, values: Tensor, num_slots: int) -> Tensor:
    """(N, num_slots) int64: integers (N, H, W) summed over the pixels of each slot."""
    sums = values.flatten(1)[:, :1].long().expand(-1, num_slots) * 0
    return sums.scatter_add(1, slot.flatten(1), values.flatten(1).long())


def _rank_slots(
    mask_logits: Tensor, confidence: Tensor, stride: int, size: Size, options: SlotOptions
) -> Tensor:
    """(N, S) int64: 0 for the slot of the best score; ties go to the smaller slot."""
    scores = confidence.double() * 0.0
    if options.class_weight > 0:
        scores = scores + _log(confidence.double()) * options.class_weight
    if options.mask_weight > 0:
        means = _mean_probability(mask_logits, stride, size, options.mask_confidence_threshold)
        scores = scores + _log(means) * options.mask_weight
    slot = torch.arange(mask_logits.shape[1], device=scores.device)
    one, other = scores[:, :, None], scores[:, None]
    is_before = (other > one) | ((other == one) & (slot < slot[:, None]))
    return is_before.long().sum(dim=2)


def _mean_probability(mask_logits: Tensor, stride: int, size: Size, threshold: float) -> Tensor:
    """(N, S) float64: of each mask in the pixels of the map that the image covers; 0 if in none."""
    num_slots, height, width = mask_logits.shape[1:]
    pixels = _two_largest(mask_logits, 1, (height, width))
    device = mask_logits.device
    rows = torch.arange(height, device=device) * stride < size[0] - 1 + stride
    columns = torch.arange(width, device=device) * stride < size[1] - 1 + stride
    is_covered = rows[:, None] & columns
    units, counts = [], []
    for slot, probability in zip((pixels.slot, pixels.second_slot), _probabilities(pixels)):
        is_in = (probability > threshold) & is_covered
        unit = torch.where(is_in, (probability * _PROBABILITY_SCALE + 0.5).floor(), 0.0)
        units.append(_sum_by_slot(slot, unit, num_slots))
        counts.append(_sum_by_slot(slot, is_in, num_slots))
    unit, count = (units[0] + units[1]).double(), (counts[0] + counts[1]).double()
    return unit / (count.clamp(min=1.0) * _PROBABILITY_SCALE)


def _log(probability: Tensor) -> Tensor:
    """-inf for 0."""
    logarithm = torch.where(probability > 0, probability, 1.0).log()
    return torch.where(probability > 0, logarithm, float("-inf"))


def _paste(masks: _Masks, is_confident: Tensor, rank: Tensor, overlap_threshold: float) -> Tensor:
    """(N, S) bool: which masks are pasted."""
    num_slots = rank.shape[1]
    # float64 holds every number of pixels, and is subtracted as it is.
    areas = (
        _sum_by_slot(masks.slots[0], masks.is_in[0], num_slots)
        + _sum_by_slot(masks.slots[1], masks.is_in[1], num_slots)
    ).double()
    pair = masks.slots[0] * num_slots + masks.slots[1]
    shared = _sum_by_slot(pair, masks.is_in[0] & masks.is_in[1], num_slots * num_slots)
    shared = shared.view(-1, num_slots, num_slots).double()
    shared = shared + shared.transpose(1, 2)
    # From here on in the order of pasting.
    place = torch.arange(num_slots, device=rank.device)
    order = torch.zeros_like(rank).scatter(1, rank, place.expand_as(rank))
    shared = shared.gather(1, order[:, :, None].expand(-1, -1, num_slots))
    shared = shared.gather(2, order[:, None].expand(-1, num_slots, -1))
    free = areas.gather(1, order)
    limits = (free.float() * overlap_threshold).double()
    limits = torch.where(is_confident.gather(1, order), limits, float("inf"))
    pasted = []
    for number, (limit, covers) in enumerate(zip(limits.unbind(1), shared.unbind(1))):
        is_pasted = free[:, number] > limit
        pasted.append(is_pasted)
        free = free - covers * is_pasted.double()[:, None]
    return torch.stack(pasted, dim=1).gather(1, rank)
