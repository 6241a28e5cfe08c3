"""Operator: from the heads' maps to panoptic labels in one go."""

from typing import Sequence, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_class_ids, check_label_divisor, check_scale, check_shape, check_size
from .extension import has_kernels, register_fake
from .merging import fake_segment_columns
from .results import PanopticSegmentation, SegmentTable


def panoptic_from_logits(
    semantic_logits: Tensor,
    center_offsets: Tensor,
    centers: Tensor,
    center_scores: Tensor,
    num_centers: Tensor,
    *,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    size: Tuple[int, int],
    scale: Tuple[float, float],
    offset_scale: Tuple[float, float],
    label_divisor: int,
    stuff_area_limit: int,
    with_probability: bool = True,
) -> PanopticSegmentation:
    """
    Upsample the logits and offsets, take the arg-max, group and merge, at output resolution.

    The result is that of `resample_aligned`, arg-max (ties to the smaller channel), the class of
    the channel, `group_pixels` and `merge_panoptic`; the (C, H, W) logits are never whole in
    memory.

    Args:
        semantic_logits: (N, C, h, w) float. A pixel with a NaN has the first such channel; with a
            NaN or +inf its probabilities are 0.
        center_offsets: (N, 2, h, w) float ``(dy, dx)`` in pixels of this map; where one is not
            finite a thing has no center.
        centers: (N, K, 2) float32 ``(y, x)`` in pixels of the output.
        center_scores: (N, K) float32.
        num_centers: (N,) int32; the first so many centers count.
        channel_to_class: the contiguous class id of each of the C channels, increasing; -1 for a
            channel whose pixels are void.
        thing_ids: classes that have instances.
        size: ``(H, W)`` of the output.
        scale: ``(scale_y, scale_x)``, map pixels per output pixel, exact in float32, at least 0.
        offset_scale: output pixels per map pixel, exact in float32: offsets are multiplied by it
            before they are upsampled.
        label_divisor, stuff_area_limit: as in `merge_panoptic`.
        with_probability: fill in ``segments.class_probability``, which costs one exponential a
            class and pixel.

    Raises:
        ValueError: if an argument is not as above.
    """
    name = "panoptic_from_logits"
    channels, num_classes = len(channel_to_class), max(channel_to_class) + 1
    check_shape(
        f"{name}: semantic_logits",
        semantic_logits,
        ("N", channels, "h", "w"),
        f"(N, {channels}, h, w) for this channel_to_class",
    )
    num_images, _, height, width = semantic_logits.shape
    shape = (num_images, 2, height, width)
    check_shape(f"{name}: center_offsets", center_offsets, shape, str(shape))
    check_shape(f"{name}: centers", centers, (num_images, "K", 2), f"({num_images}, K, 2)")
    per_center = tuple(centers.shape[:2])
    check_shape(f"{name}: center_scores", center_scores, per_center, str(per_center))
    check_shape(f"{name}: num_centers", num_centers, (num_images,), f"({num_images},)")
    check_size(f"{name}: size", size)
    check_scale(f"{name}: scale", scale, size)
    check_class_ids(f"{name}: thing_ids", thing_ids, num_classes)
    check_label_divisor(f"{name}: label_divisor", label_divisor, num_classes)
    if has_kernels("panoptic_from_logits", semantic_logits.device.type):
        panoptic, semantic, instance, *columns = torch.ops.deeplab2_d2.panoptic_from_logits(
            semantic_logits,
            center_offsets,
            centers,
            center_scores,
            num_centers,
            channel_to_class=channel_to_class,
            thing_ids=thing_ids,
            size=size,
            scale=scale,
            offset_scale=offset_scale,
            label_divisor=label_divisor,
            stuff_area_limit=stuff_area_limit,
            with_probability=with_probability,
        )
        return PanopticSegmentation(
            panoptic, semantic, instance, centers, num_centers, SegmentTable(*columns)
        )
    return reference.panoptic_from_logits(
        semantic_logits,
        center_offsets,
        centers,
        center_scores,
        num_centers,
        channel_to_class=channel_to_class,
        thing_ids=thing_ids,
        size=size,
        scale=scale,
        offset_scale=offset_scale,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
        with_probability=with_probability,
    )


@register_fake("panoptic_from_logits")
def _fake(
    semantic_logits: Tensor,
    center_offsets: Tensor,
    centers: Tensor,
    center_scores: Tensor,
    num_centers: Tensor,
    *,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    size: Tuple[int, int],
    scale: Tuple[float, float],
    offset_scale: Tuple[float, float],
    label_divisor: int,
    stuff_area_limit: int,
    with_probability: bool,
) -> Tuple[Tensor, ...]:
    shape = (semantic_logits.shape[0], size[0], size[1])
    maps = [semantic_logits.new_empty(shape, dtype=torch.int32) for _ in range(3)]
    columns = fake_segment_columns(center_scores, max(channel_to_class) + 1)
    return (*maps, *columns, torch.empty_like(columns[-1]))
