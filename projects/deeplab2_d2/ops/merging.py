"""Operator: semantic and instance maps to panoptic labels and the table of segments."""

from typing import Sequence, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_class_ids, check_label_divisor, check_range, check_shape
from .extension import has_kernels, register_fake
from .results import SegmentTable


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
    """
    Merge a semantic and an instance map by majority vote.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.2, efficient merging. Each instance takes
    the class of most of its thing pixels, ties to the smaller class. The instances of a class
    are numbered from 1 by their first pixel in raster order. Stuff is void where its area in the
    image is below the limit; thing pixels without a center are void (as in DeepLab2's plain
    TensorFlow; its compiled operator makes them one segment).

    Args:
        semantic: (N, H, W) integer class in ``[0, num_classes)``, or -1 for void.
        instance: (N, H, W) integer in ``[0, K]``, ``k + 1`` for center k, 0 for none; ignored where
            ``semantic`` is not a thing.
        center_scores: (N, K) float.
        num_classes: C.
        thing_ids: classes that have instances.
        label_divisor: panoptic label = class * label_divisor + number.
        stuff_area_limit: smallest area of a stuff segment, in pixels.

    Returns:
        The (N, H, W) int32 panoptic map, -1 for void, and the segments; their class_probability is
        not known here: NaN, or 0 if absent.

    Raises:
        ValueError: if an argument is not as above; RuntimeError if a kernel finds it. Values of
            maps are checked on the CPU only, where that needs no waiting. A number that does not
            fit the divisor is found by `deeplab2_d2.postprocessing.to_panoptic_seg`.
    """
    name = "merge_panoptic"
    check_shape(f"{name}: semantic", semantic, ("N", "H", "W"), "(N, H, W)")
    shape = tuple(semantic.shape)
    check_shape(f"{name}: instance", instance, shape, str(shape))
    check_shape(f"{name}: center_scores", center_scores, (shape[0], "K"), f"({shape[0]}, K)")
    check_class_ids(f"{name}: thing_ids", thing_ids, num_classes)
    check_label_divisor(f"{name}: label_divisor", label_divisor, num_classes)
    if has_kernels("merge_panoptic", semantic.device.type):
        panoptic, *columns = torch.ops.deeplab2_d2.merge_panoptic(
            semantic,
            instance,
            center_scores,
            num_classes=num_classes,
            thing_ids=thing_ids,
            label_divisor=label_divisor,
            stuff_area_limit=stuff_area_limit,
        )
        unknown = torch.where(columns[2] > 0, float("nan"), 0.0)
        label, category, area, box, objectness = columns
        return panoptic, SegmentTable(label, category, area, box, objectness, unknown)
    if semantic.device.type == "cpu" and semantic.numel():
        check_range(f"{name}: semantic", semantic, -1, num_classes - 1)
        check_range(f"{name}: instance", instance, 0, center_scores.shape[1])
    return reference.merge_panoptic(
        semantic,
        instance,
        center_scores,
        num_classes=num_classes,
        thing_ids=thing_ids,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
    )


@register_fake("merge_panoptic")
def _fake(
    semantic: Tensor,
    instance: Tensor,
    center_scores: Tensor,
    *,
    num_classes: int,
    thing_ids: Sequence[int],
    label_divisor: int,
    stuff_area_limit: int,
) -> Tuple[Tensor, ...]:
    panoptic = semantic.new_empty(semantic.shape, dtype=torch.int32)
    return (panoptic, *fake_segment_columns(center_scores, num_classes))


def fake_segment_columns(center_scores: Tensor, num_classes: int) -> Tuple[Tensor, ...]:
    """Empty label, category, area, box and objectness, for tracing."""
    num_images, num_rows = center_scores.shape
    shape = (num_images, num_rows + num_classes)
    integers = [center_scores.new_empty(shape, dtype=torch.int32) for _ in range(3)]
    box = center_scores.new_empty(*shape, 4, dtype=torch.int32)
    return (*integers, box, center_scores.new_empty(shape, dtype=torch.float32))
