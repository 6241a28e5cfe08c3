"""From mask slots to panoptic labels, a block of rows at a time."""

from typing import Iterator, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..results import VOID_PANOPTIC_LABEL, SegmentTable, SlotSegmentation
from .exponential import exp_nonpositive, exp_nonpositive_double, log_positive, sum_in_order
from .merging import class_flags, segment_boxes
from .panoptic import PROBABILITY_SCALE
from .resampling import axis_positions, resample_aligned

# Output pixels whose logits of all slots are held at a time: 128 slots take 16 MB.
_PIXELS_AT_ONCE = 2**15


class _Slots(NamedTuple):
    """Class, its probability, and whether it is a thing and confident, of each slot: all (N, S)."""

    category: Tensor
    confidence: Tensor
    is_thing: Tensor
    is_confident: Tensor


class _Pixels(NamedTuple):
    """
    What is known of each pixel, all (N, H, W): the slot of the largest logit, the slot that it is
    given (-1: none), whether it keeps it, and its confidence.
    """

    best_slot: Tensor
    slot: Tensor
    is_kept: Tensor
    confidence: Tensor


def _to_units(probability: Tensor) -> Tensor:
    """Probabilities as integers of 2**-24, so that sums do not depend on the order."""
    return (probability * PROBABILITY_SCALE + 0.5).floor().long()


def _classify(
    class_logits: Tensor,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    thresholds: Tuple[float, float],
) -> _Slots:
    """Ties of classes go to the smaller channel; the last channel is void and never chosen."""
    logits = class_logits.double()
    device = logits.device
    terms = exp_nonpositive_double(logits - logits.amax(dim=2, keepdim=True))
    channel = logits[:, :, :-1].argmax(dim=2)
    chosen = terms.gather(2, channel[:, :, None])[:, :, 0]
    confidence = (chosen / sum_in_order(terms.unbind(dim=2))).float()
    category = torch.tensor(tuple(channel_to_class), device=device)[channel]
    is_thing = class_flags(max(channel_to_class) + 1, thing_ids, device)[category]
    is_confident = torch.where(is_thing, confidence >= thresholds[0], confidence >= thresholds[1])
    return _Slots(category, confidence, is_thing, is_confident)


def _row_blocks(size: Tuple[int, int]) -> Iterator[Tuple[int, int]]:
    num_rows = max(_PIXELS_AT_ONCE // size[1], 1)
    for first in range(0, size[0], num_rows):
        yield first, min(first + num_rows, size[0])


def _softmax(values: Tensor, is_counted: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """
    Softmax over the slots that count, (N, S, 1, 1); the sum is in the order of the slots.

    Returns:
        The slot of the largest value (the first of equal ones), that value (-inf if none counts)
        and the sum of the exponentials relative to it, all (N, h, w).
    """
    values = values.masked_fill(~is_counted, float("-inf"))
    largest = values.amax(dim=1)
    terms = torch.where(is_counted, exp_nonpositive(values - largest[:, None]), 0.0)
    return values.argmax(dim=1), largest, sum_in_order(terms.unbind(dim=1))


def _assign_pixel_wise(
    mask_logits: Tensor,
    slots: _Slots,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    threshold: float,
) -> _Pixels:
    """Each pixel to the slot of the largest logit, unless that slot's class is not confident."""
    is_counted = slots.is_confident[:, :, None, None]
    has_any = slots.is_confident.any(dim=1)[:, None, None]
    blocks = []
    for rows in _row_blocks(size):
        values = resample_aligned(mask_logits, size, scale, rows=rows)
        slot, largest, total = _softmax(values, is_counted)
        confidence = torch.where(has_any, 1.0 / total, 0.0)
        is_kept = has_any & (confidence > threshold) & (largest == values.amax(dim=1))
        slot = torch.where(has_any, slot, -1)
        blocks.append(_Pixels(values.argmax(dim=1), slot, is_kept, confidence))
    return _Pixels(*(torch.cat(parts, dim=1) for parts in zip(*blocks)))


def _covered_map(mask_logits: Tensor, size: Tuple[int, int], scale: Tuple[float, float]) -> Tensor:
    """The part of the map, at its upper left, that the output is interpolated from."""
    lengths = []
    for side, source, axis_scale in zip(size, mask_logits.shape[-2:], scale):
        lower, _, weight = axis_positions(side - 1, 1, source, axis_scale, torch.device("cpu"))
        lengths.append(min(int(lower) + 1 + int(weight > 0), source))
    return mask_logits[..., : lengths[0], : lengths[1]]


def _mask_scores(mask_logits: Tensor, threshold: float) -> Tensor:
    """(N, S) float64: mean probability of each slot where it is above the threshold; 0 if nowhere.

    Of the map itself, before it is upsampled.
    """
    values = mask_logits.float().flatten(2)[:, :, :, None]
    every = torch.ones_like(values[:, :, :1], dtype=torch.bool)
    _, largest, total = _softmax(values, every)
    probability = exp_nonpositive(values - largest[:, None]) / total[:, None]
    is_above = probability > threshold
    unit = torch.where(is_above, _to_units(probability), 0).sum(dim=(2, 3)).double()
    count = is_above.sum(dim=(2, 3)).double()
    return unit / (count.clamp(min=1.0) * PROBABILITY_SCALE)


def _log_probability(probability: Tensor) -> Tensor:
    """-inf for 0."""
    logarithm = log_positive(torch.where(probability > 0, probability, 1.0))
    return torch.where(probability > 0, logarithm, float("-inf"))


def _rank_slots(
    slots: _Slots, mask_logits: Tensor, threshold: float, weights: Tuple[float, float]
) -> Tensor:
    """(N, S): 0 for the slot of the best score; ties go to the smaller slot."""
    scores = torch.zeros_like(slots.confidence, dtype=torch.float64)
    if weights[0] > 0:
        scores = scores + _log_probability(slots.confidence.double()) * weights[0]
    if weights[1] > 0:
        scores = scores + _log_probability(_mask_scores(mask_logits, threshold)) * weights[1]
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    return torch.argsort(order, dim=1)


def _assign_mask_wise(
    mask_logits: Tensor,
    slots: _Slots,
    rank: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    thresholds: Tuple[float, float],
) -> _Pixels:
    """One mask after the other, each on the pixels that are still free."""
    threshold, overlap_threshold = thresholds
    every = torch.ones_like(slots.is_thing)[:, :, None, None]
    blocks = []
    for rows in _row_blocks(size):
        values = resample_aligned(mask_logits, size, scale, rows=rows)
        blocks.append(_softmax(values, every))
    best_slot, largest, total = (torch.cat(parts, dim=1) for parts in zip(*blocks))
    image = torch.arange(len(rank), device=rank.device)
    canvas = torch.full_like(best_slot, -1)
    for slot in torch.argsort(rank, dim=1).unbind(dim=1):
        values = resample_aligned(mask_logits[image, slot], size, scale)
        mask = exp_nonpositive(values - largest) / total > threshold
        is_new = mask & (canvas < 0)
        num_new, num_all = (flags.sum(dim=(1, 2)).float() for flags in (is_new, mask))
        is_pasted = (num_new > num_all * overlap_threshold) & slots.is_confident[image, slot]
        canvas = torch.where(is_new & is_pasted[:, None, None], slot[:, None, None], canvas)
    return _Pixels(best_slot, canvas, canvas >= 0, 1.0 / total)


def panoptic_from_slots(
    mask_logits: Tensor,
    class_logits: Tensor,
    *,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    size: Tuple[int, int],
    scale: Tuple[float, float],
    label_divisor: int,
    is_mask_wise: bool,
    class_thresholds: Tuple[float, float],
    mask_threshold: float,
    overlap_threshold: float,
    rank_weights: Tuple[float, float],
    area_limits: Tuple[int, int],
) -> SlotSegmentation:
    """See `deeplab2_d2.ops.panoptic_from_slots`."""
    slots = _classify(class_logits, channel_to_class, thing_ids, class_thresholds)
    if is_mask_wise:
        covered = _covered_map(mask_logits, size, scale)
        rank = _rank_slots(slots, covered, mask_threshold, rank_weights)
        pixels = _assign_mask_wise(
            mask_logits, slots, rank, size, scale, (mask_threshold, overlap_threshold)
        )
        has_any = (slots.confidence >= min(class_thresholds)).any(dim=1)[:, None, None]
        pixels = pixels._replace(confidence=torch.where(has_any, pixels.confidence, 0.0))
    else:
        pixels = _assign_pixel_wise(mask_logits, slots, size, scale, mask_threshold)
        num_slots = slots.category.shape[1]
        rank = torch.arange(num_slots, device=pixels.slot.device).expand_as(slots.category)
    panoptic, segments, segment_slot = _merge(
        slots, pixels, rank, max(channel_to_class) + 1, label_divisor, area_limits
    )
    category = slots.category[:, :, None].expand(-1, -1, size[1])
    return SlotSegmentation(
        panoptic_map=panoptic,
        semantic_map=category.gather(1, pixels.best_slot).int(),
        slot_map=pixels.slot.int(),
        mask_confidence=pixels.confidence,
        class_confidence=slots.confidence,
        slot_rank=rank.int(),
        segments=segments,
        segment_slot=segment_slot,
    )


def _merge(
    slots: _Slots,
    pixels: _Pixels,
    rank: Tensor,
    num_classes: int,
    label_divisor: int,
    area_limits: Tuple[int, int],
) -> Tuple[Tensor, SegmentTable, Tensor]:
    """Join the slots of a stuff class, apply the limits on area, label the pixels."""
    num_images, num_slots = rank.shape
    height, width = pixels.slot.shape[1:]
    num_rows = num_slots + num_classes
    # Before the limits: slot s is row s for things, row S + class for stuff.
    own_row = torch.arange(num_slots, device=rank.device).expand_as(rank)
    slot_row = torch.where(slots.is_thing, own_row, num_slots + slots.category)
    pixel_slot = torch.where(pixels.is_kept, pixels.slot, num_slots).flatten(1)
    slot_area = rank.new_zeros(num_images, num_slots + 1)
    slot_area = slot_area.scatter_add_(1, pixel_slot, torch.ones_like(pixel_slot))[:, :-1]
    area = rank.new_zeros(num_images, num_rows).scatter_add_(1, slot_row, slot_area)
    area[:, :num_slots].masked_fill_(area[:, :num_slots] < area_limits[0], 0)
    area[:, num_slots:].masked_fill_(area[:, num_slots:] < area_limits[1], 0)
    is_absent = area == 0

    stuff_class = torch.arange(num_classes, device=rank.device).expand(num_images, -1)
    category = torch.cat((slots.category, stuff_class), dim=1)
    number = torch.cat((rank + 1, torch.zeros_like(stuff_class)), dim=1)
    label = (category * label_divisor + number).masked_fill(is_absent, VOID_PANOPTIC_LABEL)

    void = torch.full_like(slot_row[:, :1], num_rows)
    slot_row = torch.where(is_absent.gather(1, slot_row), num_rows, slot_row)
    rows = torch.cat((slot_row, void), dim=1).gather(1, pixel_slot)
    panoptic = torch.cat((label, torch.full_like(void, VOID_PANOPTIC_LABEL)), dim=1).gather(1, rows)
    sums = rank.new_zeros(num_images, num_rows + 1)
    sums = sums.scatter_add_(1, rows, _to_units(pixels.confidence.flatten(1)))[:, :-1]
    class_sums = rank.new_zeros(num_images, num_rows + 1)
    class_sums.scatter_add_(1, slot_row, slot_area * _to_units(slots.confidence))
    unit = area.clamp(min=1).double() * PROBABILITY_SCALE
    boxes = segment_boxes(rows, height, width, num_rows)
    segments = SegmentTable(
        panoptic_label=label.int(),
        category=category.masked_fill(is_absent, -1).int(),
        area=area.int(),
        box=boxes.masked_fill(is_absent[:, :, None], 0).int(),
        objectness=(sums.double() / unit).float(),
        class_probability=(class_sums[:, :-1].double() / unit).float(),
    )
    # The slot of the most pixels; 0 pixels count as -1, so that no absent slot is chosen.
    in_row = slot_row[:, :, None] == torch.arange(num_rows, device=rank.device)
    votes = torch.where(in_row, slot_area[:, :, None], -1)
    segment_slot = votes.argmax(dim=1).masked_fill(is_absent, -1).int()
    return panoptic.view(num_images, height, width).int(), segments, segment_slot
