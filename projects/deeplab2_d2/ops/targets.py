"""Operator: Panoptic-DeepLab's training targets of one segment map, on the CPU."""

from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_range, check_shape
from .extension import has_kernels, register_fake
from .results import TargetMaps


def panoptic_targets(
    segment_map: Tensor,
    semantic: Tensor,
    is_instance: Tensor,
    is_crowd: Tensor,
    window: Tensor,
    *,
    window_before: int,
    ignore_label: int,
    small_instance_area: int,
    small_instance_weight: float,
) -> TargetMaps:
    """
    Make all targets of a segment map in two passes over it.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3, and DeepLab2's ``sample_generator.py``,
    whose numbers these are. `deeplab2_d2.data.targets.PanopticTargets` says what each target is.

    Args:
        segment_map: (H, W) int32 in [0, S], on the CPU; 0 is unlabeled, ``k + 1`` is segment k.
        semantic: (S,) int64 label of each segment's pixels in ``sem_seg``.
        is_instance: (S,) bool, segments that have a center.
        is_crowd: (S,) bool.
        window: (n, n) float32, the Gaussian of a center.
        window_before: pixels of the window before the center, in each direction; 0 to n.
        ignore_label: of unlabeled pixels.
        small_instance_area: an instance with fewer pixels is small.
        small_instance_weight: weight of its pixels in the semantic loss.

    Raises:
        ValueError: if an argument is not as above; RuntimeError if a kernel finds a label that is
            not.
    """
    name = "panoptic_targets"
    num_segments, side = len(semantic), len(window)
    for argument, tensor, shape, dtype, words in (
        ("segment_map", segment_map, ("H", "W"), torch.int32, "(H, W) int32"),
        ("semantic", semantic, ("S",), torch.int64, "(S,) int64"),
        ("is_instance", is_instance, (num_segments,), torch.bool, f"({num_segments},) bool"),
        ("is_crowd", is_crowd, (num_segments,), torch.bool, f"({num_segments},) bool"),
        ("window", window, (side, side), torch.float32, "(n, n) float32"),
    ):
        check_shape(f"{name}: {argument}", tensor, shape, words)
        if tensor.dtype != dtype:
            raise ValueError(f"{name}: {argument} must be {words}, got {tensor.dtype}")
    if segment_map.device.type != "cpu":
        raise ValueError(f"{name}: segment_map must be on the CPU, got {segment_map.device}")
    if not 0 <= window_before <= side:
        raise ValueError(f"{name}: window_before must be in [0, {side}], got {window_before}")
    if has_kernels(name, "cpu"):
        return TargetMaps(
            *torch.ops.deeplab2_d2.panoptic_targets(
                segment_map,
                semantic,
                is_instance,
                is_crowd,
                window,
                window_before=window_before,
                ignore_label=ignore_label,
                small_instance_area=small_instance_area,
                small_instance_weight=small_instance_weight,
            )
        )
    if segment_map.numel():
        check_range(f"{name}: segment_map", segment_map, 0, num_segments)
    return reference.panoptic_targets(
        segment_map,
        semantic,
        is_instance,
        is_crowd,
        window,
        window_before=window_before,
        ignore_label=ignore_label,
        small_instance_area=small_instance_area,
        small_instance_weight=small_instance_weight,
    )


@register_fake("panoptic_targets")
def _fake(segment_map: Tensor, semantic: Tensor, *args: object, **options: object) -> TargetMaps:
    height, width = segment_map.shape

    def floats(*shape: int) -> Tensor:
        return segment_map.new_empty(shape, dtype=torch.float32)

    size: Tuple[int, int] = (height, width)
    return TargetMaps(
        sem_seg=segment_map.new_empty(size, dtype=torch.int64),
        sem_seg_weights=floats(*size),
        center_heatmap=floats(*size),
        center_weights=floats(*size),
        center_offsets=floats(2, *size),
        offset_weights=floats(*size),
    )
