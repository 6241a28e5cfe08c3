"""Operator: from mask slots to panoptic labels in one go."""

import math
from typing import Sequence, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_class_ids, check_label_divisor, check_scale, check_shape, check_size
from .extension import has_kernels, register_fake
from .results import SegmentTable, SlotSegmentation

# Above a third (and a margin for rounding) at most two probabilities of a pixel fit into 1.
SMALLEST_MASK_THRESHOLD = 0.334


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
    """
    Upsample the mask logits, give every pixel to a slot, apply thresholds and limits, label.

    The logits are upsampled as by `resample_aligned`; all S slots of a full-size map are never in
    memory. A slot has the most probable of its classes (ties to the smaller channel; void is never
    chosen), with its softmax probability over all channels, and is confident if that is at least
    the threshold.

    Pixel-wise, a pixel belongs to the slot of its largest logit (ties to the smaller slot), if that
    logit is a confident slot's and the slot's softmax probability, among the confident ones, is
    above the mask threshold. Mask-wise, the masks (softmax probability over all slots above the
    threshold) are pasted in descending order of ``class_confidence ** w_class * mean ** w_mask``
    (ties to the smaller slot), each on what is still free; a mask is left out if its class is not
    confident or only ``overlap_threshold`` of its pixels, or less, are free. ``mean`` is that of
    the probabilities above the threshold, in pixels of the map that the output covers.

    Args:
        mask_logits: (N, S, h, w) float; 1 to 1024 slots. Where one is NaN or +inf, no probability
            is above a threshold.
        class_logits: (N, S, C + 1) float; the last channel is void. A slot with NaN or +inf is not
            confident.
        channel_to_class: contiguous class id of each of the first C channels, all different.
        thing_ids: classes whose slots are segments of their own; the slots of another class join.
        size: ``(H, W)`` of the output.
        scale: ``(scale_y, scale_x)``, map pixels per output pixel, exact in float32, at least 0.
        label_divisor: panoptic label = class * label_divisor + number; more than S.
        is_mask_wise: paste masks; False assigns pixel-wise.
        class_thresholds: for things and for stuff.
        mask_threshold: pixels at or below it are not the slot's. Mask-wise it is at least 0.334,
            so that no more than two masks overlap anywhere.
        overlap_threshold: mask-wise only.
        rank_weights: ``(w_class, w_mask)``, finite, at least 0; mask-wise only.
        area_limits: smaller things, and smaller stuff segments, become void; pixels of the output.

    Raises:
        ValueError: if an argument is not as above.
    """
    _check_slots(mask_logits, class_logits, channel_to_class, thing_ids, size, label_divisor)
    options = {
        "channel_to_class": channel_to_class,
        "thing_ids": thing_ids,
        "size": size,
        "scale": scale,
        "label_divisor": label_divisor,
        "is_mask_wise": is_mask_wise,
        "class_thresholds": class_thresholds,
        "mask_threshold": mask_threshold,
        "overlap_threshold": overlap_threshold,
        "rank_weights": rank_weights,
        "area_limits": area_limits,
    }
    if is_mask_wise and mask_threshold < SMALLEST_MASK_THRESHOLD:
        raise ValueError(
            "panoptic_from_slots: mask_threshold must be at least "
            f"{SMALLEST_MASK_THRESHOLD} to paste masks, got {mask_threshold}"
        )
    if not all(0 <= weight < math.inf for weight in rank_weights):
        raise ValueError(
            "panoptic_from_slots: rank_weights must be finite and at least 0, got "
            f"{tuple(rank_weights)}"
        )
    check_scale("panoptic_from_slots: scale", scale, size)
    if has_kernels("panoptic_from_slots", mask_logits.device.type):
        outputs = torch.ops.deeplab2_d2.panoptic_from_slots(mask_logits, class_logits, **options)
        panoptic, semantic, slot, confidence, class_confidence, rank, *columns, segment_slot = (
            outputs
        )
        return SlotSegmentation(
            panoptic,
            semantic,
            slot,
            confidence,
            class_confidence,
            rank,
            SegmentTable(*columns),
            segment_slot,
        )
    return reference.panoptic_from_slots(mask_logits, class_logits, **options)  # type: ignore


def _check_slots(
    mask_logits: Tensor,
    class_logits: Tensor,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    size: Tuple[int, int],
    label_divisor: int,
) -> None:
    name = "panoptic_from_slots"
    check_shape(f"{name}: mask_logits", mask_logits, ("N", "S", "h", "w"), "(N, S, h, w)")
    num_images, num_slots = mask_logits.shape[:2]
    if not 1 <= num_slots <= 1024 or min(mask_logits.shape[2:]) < 1:
        raise ValueError(
            f"{name}: mask_logits must have 1 to 1024 slots of at least a pixel, got "
            f"{tuple(mask_logits.shape)}"
        )
    shape = (num_images, num_slots, len(channel_to_class) + 1)
    check_shape(
        f"{name}: class_logits", class_logits, shape, f"{shape} for these masks and classes"
    )
    for argument, tensor in (("mask_logits", mask_logits), ("class_logits", class_logits)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: {argument} must be float, got {tensor.dtype}")
    if class_logits.device != mask_logits.device:
        raise ValueError(
            f"{name}: class_logits must be on {mask_logits.device}, got {class_logits.device}"
        )
    classes = tuple(channel_to_class)
    if not classes or min(classes) < 0 or len(set(classes)) < len(classes):
        raise ValueError(
            f"{name}: channel_to_class must be different ids of at least 0, got {classes}"
        )
    check_size(f"{name}: size", size)
    check_class_ids(f"{name}: thing_ids", thing_ids, max(classes) + 1)
    check_label_divisor(f"{name}: label_divisor", label_divisor, max(classes) + 1)
    if label_divisor <= num_slots:
        raise ValueError(
            f"{name}: label_divisor must be more than the {num_slots} slots, got {label_divisor}"
        )


@register_fake("panoptic_from_slots")
def _fake(
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
) -> Tuple[Tensor, ...]:
    num_images, num_slots = mask_logits.shape[:2]
    num_rows = num_slots + max(channel_to_class) + 1

    def integers(*shape: int) -> Tensor:
        return mask_logits.new_empty(shape, dtype=torch.int32)

    def floats(*shape: int) -> Tensor:
        return mask_logits.new_empty(shape, dtype=torch.float32)

    image = (num_images, size[0], size[1])
    rows = (num_images, num_rows)
    return (
        *(integers(*image) for _ in range(3)), floats(*image), floats(num_images, num_slots),
        integers(num_images, num_slots), integers(*rows), integers(*rows), integers(*rows),
        integers(*rows, 4), floats(*rows), floats(*rows), integers(*rows),
    )  # fmt: skip
