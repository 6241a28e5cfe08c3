"""Operator: instance centers from the heatmap."""

from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_scale, check_shape, check_size
from .extension import has_kernels, register_fake


def find_centers(
    heatmap: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    *,
    threshold: float,
    nms_kernel: int,
    top_k: int,
) -> Tuple[Tensor, Tensor, Tensor]:
    """
    Upsample the heatmap and find the instance centers: threshold, max-pooling, top-k.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.2, simple instance representation. Where
    DeepLab2 (``post_processor/panoptic_deeplab.py``) compares with the last of an unsorted top-k,
    so that it may drop any number of centers, this keeps exactly the ``top_k`` best.

    Args:
        heatmap: (N, h, w) float.
        size: ``(H, W)`` of the map on which centers are detected.
        scale: ``(scale_y, scale_x)``, heatmap pixels per detection pixel, exact in float32.
        threshold: a center's value is greater than this and than 0.
        nms_kernel: side of the window of which a center is the largest value, in detection pixels;
            an even window reaches one pixel further down and right. Equal values are all centers.
        top_k: number of centers kept, the highest first; of equal values the first in raster
            order. 0 or less keeps all, which waits for the GPU.

    Returns:
        ``(centers, scores, counts)``. ``centers``: (N, K, 2) int32 ``(y, x)`` in detection pixels,
        in raster order; ``scores``: (N, K) float32; ``counts``: (N,) int32. Rows beyond the count
        are 0. K is ``top_k``, or the largest count, at least 1, if all are kept.

    Raises:
        ValueError: if an argument is not as above.
    """
    check_shape("find_centers: heatmap", heatmap, ("N", "h", "w"), "(N, h, w)")
    check_size("find_centers: size", size)
    check_scale("find_centers: scale", scale, size)
    if nms_kernel < 1:
        raise ValueError(f"find_centers: nms_kernel must be at least 1, got {nms_kernel}")
    if has_kernels("find_centers", heatmap.device.type):
        return torch.ops.deeplab2_d2.find_centers(
            heatmap, size, scale, threshold=threshold, nms_kernel=nms_kernel, top_k=top_k
        )
    return reference.find_centers(
        heatmap, size, scale, threshold=threshold, nms_kernel=nms_kernel, top_k=top_k
    )


@register_fake("find_centers")
def _fake(
    heatmap: Tensor,
    size: Tuple[int, int],
    scale: Tuple[float, float],
    *,
    threshold: float,
    nms_kernel: int,
    top_k: int,
) -> Tuple[Tensor, Tensor, Tensor]:
    num_images = heatmap.shape[0]
    # Keeping all has as many rows as are found.
    num_rows = top_k if top_k > 0 else torch.library.get_ctx().new_dynamic_size()
    return (
        heatmap.new_empty(num_images, num_rows, 2, dtype=torch.int32),
        heatmap.new_empty(num_images, num_rows, dtype=torch.float32),
        heatmap.new_empty(num_images, dtype=torch.int32),
    )
