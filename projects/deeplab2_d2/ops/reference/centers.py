"""Instance centers: threshold, non-maximum suppression by max-pooling, top-k."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .resampling import resample_aligned


def suppress_non_maxima(heatmap: Tensor, threshold: float, nms_kernel: int) -> Tensor:
    """
    Keep the heatmap where it is above the threshold and the largest of its window.

    The window of pixel y is ``y - (nms_kernel - 1) // 2 .. y + nms_kernel // 2``, limited to the
    map, so that an even window reaches one further down and right (as in DeepLab2). Equal values in
    a window are all kept.

    Args:
        heatmap: (N, H, W) float32.
        threshold: values must be greater than this, and greater than 0.
        nms_kernel: side of the window, at least 1.

    Returns:
        (N, H, W) float32, 0 where there is no center.
    """
    candidates = torch.where(heatmap > max(threshold, 0.0), heatmap, 0.0)
    before, after = (nms_kernel - 1) // 2, nms_kernel // 2
    # Candidates are positive, so that zero padding never wins.
    padded = F.pad(candidates, (before, after, before, after))[:, None]
    # Along x, then along y: the maximum is separable, and exact.
    pooled = F.max_pool2d(padded, (1, nms_kernel), stride=1)
    pooled = F.max_pool2d(pooled, (nms_kernel, 1), stride=1)
    return torch.where(pooled[:, 0] == candidates, candidates, 0.0)


def find_centers(
    heatmap: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    *,
    threshold: float,
    nms_kernel: int,
    top_k: int,
) -> Tuple[Tensor, Tensor, Tensor]:
    """See `deeplab2_d2.ops.find_centers`."""
    heatmap = resample_aligned(heatmap, size, scale)
    num_images, height, width = heatmap.shape
    values = suppress_non_maxima(heatmap, threshold, nms_kernel).flatten(1)  # (N, H * W)
    if top_k <= 0:
        # Keeping all needs the largest count on the host: the one place that synchronises.
        top_k = max(int((values > 0).sum(1).max()), 1)

    # torch.topk does not say which of equal values it takes: use it for the k-th value alone.
    num_selected = min(top_k, height * width)
    last_value = torch.topk(values, num_selected, dim=1).values[:, -1:]
    above = (values > last_value) & (values > 0)
    equal = (values == last_value) & (values > 0)
    num_missing = num_selected - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.long().cumsum(1) <= num_missing))

    counts = keep.sum(1)
    # Row of each kept position, in raster order; the others share a row that is cut off.
    row = torch.where(keep, keep.long().cumsum(1) - 1, top_k)
    position = torch.arange(height * width, device=values.device).expand(num_images, -1)
    positions = values.new_zeros(num_images, top_k + 1, dtype=torch.int64)
    positions = positions.scatter_(1, row, position)[:, :top_k]
    is_center = torch.arange(top_k, device=values.device) < counts[:, None]
    positions = torch.where(is_center, positions, 0)
    scores = torch.where(is_center, values.gather(1, positions), 0.0)
    centers = torch.stack((positions // width, positions % width), dim=2)
    return centers.int(), scores, counts.int()
