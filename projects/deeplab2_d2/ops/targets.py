"""Operator: Panoptic-DeepLab's training targets of one segment map, on the CPU."""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from .extension import has_extension, register_fake


class TargetMaps(NamedTuple):
    """
    Attributes:
        sem_seg: (H, W) int64.
        sem_seg_weights: (H, W) float32.
        center_heatmap: (H, W) float32.
        center_weights: (H, W) float32.
        center_offsets: (2, H, W) float32 ``(dy, dx)``.
        offset_weights: (H, W) float32.
    """

    sem_seg: Tensor
    sem_seg_weights: Tensor
    center_heatmap: Tensor
    center_weights: Tensor
    center_offsets: Tensor
    offset_weights: Tensor


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

    The specification is `deeplab2_d2.data.targets.PanopticTargetGenerator`, which has the numbers
    of DeepLab2's ``sample_generator.py`` and runs where this operator is not built
    (`has_extension`); it says what each target is.

    Args:
        segment_map: (H, W) int32 in [0, S]; 0 is unlabeled, ``k + 1`` is segment k.
        semantic: (S,) int64 label of each segment's pixels in ``sem_seg``.
        is_instance: (S,) bool, segments that have a center.
        is_crowd: (S,) bool.
        window: (n, n) float32, the Gaussian of a center.
        window_before: pixels of the window before the center, in each direction.
        ignore_label: of unlabeled pixels.
        small_instance_area: an instance with fewer pixels is small.
        small_instance_weight: weight of its pixels in the semantic loss.

    Raises:
        RuntimeError: if an argument is not as above, or the operators are not built.
    """
    if not has_extension("panoptic_targets"):
        raise RuntimeError("panoptic_targets: the operators are not built; see has_extension")
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
