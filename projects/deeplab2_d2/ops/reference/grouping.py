"""Pixel grouping: every pixel to the center nearest to where its offset points."""

import torch
from torch import Tensor

# Centers compared at a time. The memory is this many maps; more does not make it faster.
_CENTERS_AT_ONCE = 8


def group_pixels(centers: Tensor, num_centers: Tensor, offsets: Tensor) -> Tensor:
    """See `deeplab2_d2.ops.group_pixels`."""
    num_images, _, height, width = offsets.shape
    offsets = offsets.float()
    target_y = torch.arange(height, device=offsets.device).float()[:, None] + offsets[:, 0]
    target_x = torch.arange(width, device=offsets.device).float() + offsets[:, 1]

    is_center = torch.arange(centers.shape[1], device=centers.device) < num_centers[:, None]
    if centers.device.type == "cpu" and not torch.compiler.is_compiling():
        # Reading a count is free here; on a GPU it would wait, and the rows are few.
        largest_count = int(num_centers.max()) if num_images else 0
        centers, is_center = centers[:, :largest_count], is_center[:, :largest_count]

    nearest = torch.zeros(num_images, height, width, dtype=torch.int32, device=offsets.device)
    distance = torch.full_like(target_y, float("inf"))
    for first in range(0, centers.shape[1], _CENTERS_AT_ONCE):
        chunk = centers[:, first : first + _CENTERS_AT_ONCE, :, None, None]
        delta_y = chunk[:, :, 0] - target_y[:, None]
        delta_x = chunk[:, :, 1] - target_x[:, None]
        squared = delta_y * delta_y + delta_x * delta_x  # (N, chunk, H, W)
        absent = ~is_center[:, first : first + _CENTERS_AT_ONCE, None, None]
        # A center or an offset that is not a number is near to nothing.
        squared = squared.masked_fill_(absent | squared.isnan(), float("inf"))
        chunk_distance, chunk_nearest = squared.min(dim=1)  # the first of equal ones
        is_nearer = chunk_distance < distance
        nearest = torch.where(is_nearer, chunk_nearest.int() + (first + 1), nearest)
        distance = torch.where(is_nearer, chunk_distance, distance)
    return nearest
