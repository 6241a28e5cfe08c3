"""The merge: majority vote, numbering, stuff area limit, and the table of segments."""

from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..results import VOID_PANOPTIC_LABEL, SegmentTable


class _Rows(NamedTuple):
    """Properties of the S = K + C segments of each image, all (N, S)."""

    panoptic_label: Tensor
    category: Tensor
    area: Tensor


def class_flags(num_classes: int, class_ids: Sequence[int], device: torch.device) -> Tensor:
    """(num_classes,) bool, true at ``class_ids``."""
    flags = torch.tensor([c in class_ids for c in range(num_classes)])
    return flags.to(device, non_blocking=True)


def segment_rows(semantic: Tensor, instance: Tensor, is_thing: Tensor, num_rows: int) -> Tensor:
    """
    The row of the segment table to which each pixel belongs before the area limit.

    Args:
        semantic: (N, H, W) class, -1 for void.
        instance: (N, H, W) row + 1 of the center, 0 for none.
        is_thing: (C,) bool.
        num_rows: K, the number of centers.

    Returns:
        (N, H * W) int64: center k is row k, stuff class c row K + c; K + C for void and for thing
        pixels without a center.
    """
    semantic, instance = semantic.flatten(1).long(), instance.flatten(1).long()
    num_segments = num_rows + len(is_thing)
    pixel_is_thing = is_thing[semantic.clamp(min=0)]
    rows = torch.where(pixel_is_thing, instance - 1, num_rows + semantic)
    has_no_segment = (semantic < 0) | (pixel_is_thing & (instance == 0))
    return rows.masked_fill_(has_no_segment, num_segments)


def _vote(rows: Tensor, semantic: Tensor, num_rows: int, num_classes: int) -> Tuple[Tensor, Tensor]:
    """Majority class and area of each center, both (N, K); ties go to the smaller class."""
    is_instance = rows < num_rows
    index = torch.where(is_instance, rows * num_classes + semantic, num_rows * num_classes)
    votes = index.new_zeros(rows.shape[0], num_rows * num_classes + 1)
    votes = votes.scatter_add_(1, index, torch.ones_like(index))[:, :-1]
    votes = votes.view(rows.shape[0], num_rows, num_classes)
    return votes.argmax(dim=2), votes.sum(dim=2)


def _number_instances(rows: Tensor, majority: Tensor, area: Tensor) -> Tensor:
    """(N, K): 1, 2, ... within each class, in the raster order of the instances' first pixels."""
    num_images, num_rows = majority.shape
    num_pixels = rows.shape[1]
    pixel = torch.arange(num_pixels, device=rows.device).expand(num_images, -1)
    first_pixel = rows.new_full((num_images, num_rows + 1), num_pixels)
    first_pixel = first_pixel.scatter_reduce_(1, rows.clamp(max=num_rows), pixel, "amin")[:, :-1]
    is_before = first_pixel[:, None, :] < first_pixel[:, :, None]
    is_same_class = (majority[:, None, :] == majority[:, :, None]) & (area > 0)[:, None, :]
    return (is_before & is_same_class).sum(dim=2) + 1


def segment_boxes(rows: Tensor, height: int, width: int, num_segments: int) -> Tensor:
    """(N, S, 4) ``(y_min, x_min, y_max, x_max)`` of the pixels of each row, maxima exclusive."""
    pixel = torch.arange(height * width, device=rows.device).expand(rows.shape[0], -1)
    lowest = rows.new_full((rows.shape[0], num_segments + 1), height * width)
    highest = rows.new_full((rows.shape[0], num_segments + 1), -1)
    y, x = pixel // width, pixel % width
    y_min = lowest.scatter_reduce(1, rows, y, "amin")
    x_min = lowest.scatter_reduce(1, rows, x, "amin")
    y_max = highest.scatter_reduce(1, rows, y, "amax") + 1
    x_max = highest.scatter_reduce(1, rows, x, "amax") + 1
    return torch.stack((y_min, x_min, y_max, x_max), dim=2)[:, :-1]


def merge_panoptic(
    semantic: Tensor,
    instance: Tensor,
    center_scores: Tensor,
    *,
    num_classes: int,
    thing_ids: Sequence[int],
    label_divisor: int,
    stuff_area_limit: int,
) -> Tuple[Tensor, SegmentTable]:
    """See `deeplab2_d2.ops.merge_panoptic`."""
    num_images, height, width = semantic.shape
    num_rows = center_scores.shape[1]
    is_thing = class_flags(num_classes, thing_ids, semantic.device)
    rows = segment_rows(semantic, instance, is_thing, num_rows)
    flat_semantic = semantic.flatten(1).long()

    majority, instance_area = _vote(rows, flat_semantic, num_rows, num_classes)
    number = _number_instances(rows, majority, instance_area)
    stuff_area = rows.new_zeros(num_images, num_rows + num_classes + 1)
    stuff_area.scatter_add_(1, rows, torch.ones_like(rows))
    stuff_area = stuff_area[:, num_rows:-1]
    stuff_area = stuff_area.masked_fill(stuff_area < stuff_area_limit, 0)

    stuff_class = torch.arange(num_classes, device=rows.device).expand(num_images, -1)
    table = _Rows(
        panoptic_label=torch.cat(
            (majority * label_divisor + number, stuff_class * label_divisor), dim=1
        ),
        category=torch.cat((majority, stuff_class), dim=1),
        area=torch.cat((instance_area, stuff_area), dim=1),
    )
    is_absent = table.area == 0
    panoptic_label = table.panoptic_label.masked_fill(is_absent, VOID_PANOPTIC_LABEL)
    void = panoptic_label.new_full((num_images, 1), VOID_PANOPTIC_LABEL)
    panoptic = torch.cat((panoptic_label, void), dim=1).gather(1, rows)
    boxes = segment_boxes(rows, height, width, num_rows + num_classes)
    objectness = torch.cat(
        (center_scores.float(), center_scores.new_ones(num_images, num_classes)), dim=1
    )
    segments = SegmentTable(
        panoptic_label=panoptic_label.int(),
        category=table.category.masked_fill(is_absent, -1).int(),
        area=table.area.int(),
        box=boxes.masked_fill(is_absent[:, :, None], 0).int(),
        objectness=objectness.masked_fill(is_absent, 0.0),
        class_probability=torch.full_like(objectness, float("nan")).masked_fill(is_absent, 0.0),
    )
    return panoptic.view(num_images, height, width).int(), segments
