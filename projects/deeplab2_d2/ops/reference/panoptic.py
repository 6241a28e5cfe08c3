"""From the heads' maps and the centers to panoptic labels, a block of rows at a time."""

from typing import Sequence, Tuple

import torch
from torch import Tensor

from ..results import VOID_PANOPTIC_LABEL, PanopticSegmentation
from .grouping import group_pixels
from .merging import class_flags, merge_panoptic, segment_rows
from .resampling import resample_aligned, resample_argmax, row_blocks

# Probabilities are summed as integers of this unit: the sum does not depend on the order.
PROBABILITY_SCALE = 2**24


def _class_probability(
    logits: Tensor,
    segmentation: PanopticSegmentation,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    scale: Tuple[float, float],
) -> Tensor:
    """
    Mean over each segment of the softmax probability of its class; shape as the table.

    Each pixel's probability is rounded to 2**-24, and 0 where it is NaN; the sums are exact
    integers.
    """
    segments = segmentation.segments
    num_images, num_rows = segmentation.centers.shape[:2]
    height, width = segmentation.panoptic_map.shape[1:]
    num_classes = max(channel_to_class) + 1
    is_thing = class_flags(num_classes, thing_ids, logits.device)
    rows = segment_rows(segmentation.semantic_map, segmentation.instance_map, is_thing, num_rows)
    is_void = segmentation.panoptic_map.flatten(1) == VOID_PANOPTIC_LABEL
    rows = rows.masked_fill_(is_void, segments.area.shape[1])
    rows = rows.view(num_images, height, width)

    channel = [0] * num_classes
    for number, class_id in enumerate(channel_to_class):
        if class_id >= 0:
            channel[class_id] = number
    channel_of_class = torch.tensor(channel, device=logits.device)
    row_channel = channel_of_class[segments.category.long().clamp(min=0)]
    row_channel = torch.cat((row_channel, torch.zeros_like(row_channel[:, :1])), dim=1)

    sums = rows.new_zeros(num_images, segments.area.shape[1] + 1)
    for first, last in row_blocks((height, width)):
        block_rows = rows[:, first:last].flatten(1)
        block = resample_aligned(logits, (height, width), scale, rows=(first, last)).flatten(2)
        largest = block.max(dim=1, keepdim=True).values
        total = (block - largest).exp_().sum(dim=1)
        chosen = block.gather(1, row_channel.gather(1, block_rows)[:, None])
        probability = (chosen - largest).exp_()[:, 0] / total
        known = torch.where(probability.isnan(), 0.0, probability)
        unit = (known * PROBABILITY_SCALE).round().long()
        sums.scatter_add_(1, block_rows, unit)
    mean = sums[:, :-1].double() / (segments.area.double() * PROBABILITY_SCALE)
    return torch.where(segments.area > 0, mean, 0.0).float()


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
    with_probability: bool,
) -> PanopticSegmentation:
    """See `deeplab2_d2.ops.panoptic_from_logits`."""
    num_classes = max(channel_to_class) + 1
    channel = resample_argmax(semantic_logits, size, scale)
    table = torch.tensor(tuple(channel_to_class), dtype=torch.int32, device=channel.device)
    semantic = table[channel.long()]
    offset_y, offset_x = center_offsets.float().unbind(dim=1)
    scaled = torch.stack((offset_y * offset_scale[0], offset_x * offset_scale[1]), dim=1)
    instance = group_pixels(centers, num_centers, resample_aligned(scaled, size, scale))
    is_thing = class_flags(num_classes, thing_ids, semantic.device)
    instance = instance * (is_thing[semantic.long().clamp(min=0)] & (semantic >= 0))
    panoptic, segments = merge_panoptic(
        semantic,
        instance,
        center_scores,
        num_classes=num_classes,
        thing_ids=thing_ids,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
    )
    segmentation = PanopticSegmentation(
        panoptic, semantic, instance, centers, num_centers, segments
    )
    if with_probability:
        probability = _class_probability(
            semantic_logits, segmentation, channel_to_class, thing_ids, scale
        )
        segments = segments._replace(class_probability=probability)
    return segmentation._replace(segments=segments)
