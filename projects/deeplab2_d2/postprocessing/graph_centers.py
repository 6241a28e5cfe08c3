"""Panoptic-DeepLab's post-processing as a graph; see :mod:`.graph_resizing`."""

from typing import Dict, Sequence

import torch
from torch import Tensor

from ..ops import reference
from .geometry import Size
from .graph_resizing import enlarge_aligned, enlarged_argmax, label_table

# Centers that every pixel is compared with at a time. Those that no image has cost nothing.
_CENTERS_AT_ONCE = 16


def graph_panoptic_from_centers(
    semantic_logits: Tensor,
    center_heatmap: Tensor,
    center_offsets: Tensor,
    stride: int,
    size: Size,
    *,
    channel_to_class: Sequence[int],
    thing_ids: Sequence[int],
    label_divisor: int,
    stuff_area_limit: int,
    center_threshold: float,
    nms_kernel: int,
    top_k_centers: int,
) -> Dict[str, Tensor]:
    """
    The maps of :func:`panoptic_from_centers`, where network input and output have one scale.

    Args:
        semantic_logits: (N, C, h, w) float.
        center_heatmap: (N, 1, h, w) float.
        center_offsets: (N, 2, h, w) float ``(dy, dx)`` in pixels of this map.
        stride: pixels of the image per pixel of the maps, a power of two.
        size: (H, W) of the images, which stand top left in what the maps cover; of at least
            ``top_k_centers`` pixels.
        channel_to_class: class of each channel, -1 for void.
        thing_ids, label_divisor, stuff_area_limit, center_threshold, nms_kernel: as there.
        top_k_centers: as there, and at least 1.

    Returns:
        ``panoptic_map`` and ``semantic_map``, (N, H, W) int32, -1 for void.

    Raises:
        ValueError: if ``top_k_centers`` is less than 1.
    """
    if top_k_centers < 1:
        raise ValueError(f"top_k_centers must be at least 1 in a graph, got {top_k_centers}")
    channel, _ = enlarged_argmax(semantic_logits, stride, size)
    semantic = label_table(tuple(channel_to_class), channel)
    centers, scores, counts = reference.find_centers(
        enlarge_aligned(center_heatmap, stride, size)[:, 0],
        size,
        (1.0, 1.0),
        threshold=center_threshold,
        nms_kernel=nms_kernel,
        top_k=top_k_centers,
    )
    offsets = enlarge_aligned(center_offsets.float() * stride, stride, size)
    instance = graph_group_pixels(centers.float(), counts, offsets)
    num_classes = max(channel_to_class) + 1
    # Void, class -1, is the last of the table.
    is_thing = [int(c in thing_ids) for c in range(num_classes)] + [0]
    instance = instance * label_table(tuple(is_thing), semantic)
    panoptic, _ = reference.merge_panoptic(
        semantic,
        instance,
        scores,
        num_classes=num_classes,
        thing_ids=thing_ids,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
    )
    return {"panoptic_map": panoptic, "semantic_map": semantic.int()}


def graph_group_pixels(centers: Tensor, num_centers: Tensor, offsets: Tensor) -> Tensor:
    """
    The integers of :func:`deeplab2_d2.ops.group_pixels`, as int64.

    Args:
        centers: (N, K, 2) float32 ``(y, x)`` in pixels; K is no symbol.
        num_centers: (N,) integer; the first so many centers count.
        offsets: (N, 2, H, W) float32 ``(dy, dx)`` in pixels.
    """
    height, width = offsets.shape[2:]
    device = offsets.device
    target_y = torch.arange(height, device=device).float()[:, None] + offsets[:, 0]
    target_x = torch.arange(width, device=device).float() + offsets[:, 1]
    target_y, target_x = target_y.flatten(1)[:, None], target_x.flatten(1)[:, None]
    most = num_centers.max()
    distance = torch.full_like(target_y, float("inf"))
    nearest = torch.zeros_like(target_y, dtype=torch.int64)
    for first in range(0, centers.shape[1], _CENTERS_AT_ONCE):
        last = min(first + _CENTERS_AT_ONCE, centers.shape[1])
        numbers = torch.arange(first, last, device=device)
        # As many as the image of the most centers has: none, beyond.
        numbers = numbers[torch.nonzero(numbers < most)[:, 0]]
        some = centers.index_select(1, numbers)
        delta_y, delta_x = some[:, :, 0, None] - target_y, some[:, :, 1, None] - target_x
        squared = delta_y * delta_y + delta_x * delta_x
        is_absent = (numbers >= num_centers[:, None])[:, :, None]
        squared = squared.masked_fill(is_absent | squared.isnan(), float("inf"))
        # The first of equal ones: what was nearest before.
        distance, index = torch.cat((distance, squared), dim=1).min(dim=1, keepdim=True)
        nearest = torch.where(index > 0, index + first, nearest)
    return nearest.view(offsets.shape[0], height, width)
