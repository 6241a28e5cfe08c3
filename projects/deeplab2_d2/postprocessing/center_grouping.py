"""Semantic logits, a center heatmap and center offsets to panoptic labels of the original image."""

from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from .. import ops
from ..ops import PanopticSegmentation
from ..structures import ClassMap, identity_class_map
from .geometry import Frames, Scale


def panoptic_from_centers(
    semantic_logits: Tensor,
    center_heatmap: Tensor,
    center_offsets: Tensor,
    frames: Frames,
    *,
    thing_ids: Sequence[int],
    label_divisor: int,
    stuff_area_limit: int,
    center_threshold: float = 0.1,
    nms_kernel: int = 13,
    top_k_centers: int = 400,
    class_map: Optional[ClassMap] = None,
    with_probability: bool = True,
) -> PanopticSegmentation:
    """
    Panoptic labels of a batch of images that share their frames.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.2 and 3.3. Centers are detected on the
    network input's grid, as DeepLab2 does, then moved to the output; everything else is computed at
    output resolution. Where the frames are one, the maps are those of DeepLab2 (with
    ``merge_semantic_and_instance_with_tf_op`` off). No step waits for the GPU, unless
    ``top_k_centers`` is 0 or less.

    Args:
        semantic_logits: (N, C, h, w) float, logits or log-probabilities, which cover the network
            input. Probabilities give the same maps, but not the same class probabilities.
        center_heatmap: (N, 1, h, w) float.
        center_offsets: (N, 2, h, w) float ``(dy, dx)`` in pixels of this map.
        frames: of network input, image and output.
        thing_ids: contiguous ids of the classes that have instances.
        label_divisor: panoptic label = class * label_divisor + instance number.
        stuff_area_limit: smaller stuff segments become void; pixels of the output.
        center_threshold: a center's heatmap value is greater than this.
        nms_kernel: window of the center suppression, in pixels of the network input.
        top_k_centers: centers kept at most; 0 or less keeps all.
        class_map: classes of the semantic channels; None if channel i is class i.
        with_probability: compute the class probabilities of the segments' scores.

    Raises:
        ValueError: if an argument is not as above.
    """
    if class_map is None:
        class_map = identity_class_map(semantic_logits.shape[1])
    geometry = frames.geometry(semantic_logits)
    centers, center_scores, num_centers = find_image_centers(
        center_heatmap,
        frames,
        center_threshold=center_threshold,
        nms_kernel=nms_kernel,
        top_k_centers=top_k_centers,
    )
    return ops.panoptic_from_logits(
        semantic_logits,
        center_offsets,
        centers,
        center_scores,
        num_centers,
        channel_to_class=class_map.channel_to_class,
        thing_ids=thing_ids,
        size=frames.output_size,
        scale=geometry.output_to_map,
        offset_scale=geometry.map_to_output,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
        with_probability=with_probability,
    )


def find_image_centers(
    center_heatmap: Tensor,
    frames: Frames,
    *,
    center_threshold: float = 0.1,
    nms_kernel: int = 13,
    top_k_centers: int = 400,
) -> Tuple[Tensor, Tensor, Tensor]:
    """
    The centers of images, detected on the network input's grid.

    Args: as :func:`panoptic_from_centers`.

    Returns:
        Centers (N, K, 2) float32 ``(y, x)`` in pixels of the output, their scores (N, K) and how
        many there are (N,), see :func:`deeplab2_d2.ops.find_centers`.
    """
    geometry = frames.geometry(center_heatmap)
    centers, scores, counts = ops.find_centers(
        center_heatmap[:, 0],
        frames.image_size,
        geometry.image_to_map,
        threshold=center_threshold,
        nms_kernel=nms_kernel,
        top_k=top_k_centers,
    )
    return _scale_points(centers, geometry.image_to_output), scores, counts


def semantic_scores(
    semantic_logits: Tensor, frames: Frames, *, class_map: Optional[ClassMap] = None
) -> Tensor:
    """
    Semantic logits at output resolution, as Detectron2's ``sem_seg``.

    Args:
        semantic_logits: (N, C, h, w) float, raw head output, which covers the network input.
        frames: of network input, image and output.
        class_map: classes of the channels; void channels are left out. None if channel i is
            class i.

    Returns:
        (N, num_classes, H, W) float32.
    """
    scale = frames.geometry(semantic_logits).output_to_map
    logits = semantic_logits if class_map is None else class_map.select(semantic_logits)
    return ops.resample_aligned(logits, frames.output_size, scale)


def semantic_labels(
    semantic_logits: Tensor, frames: Frames, *, class_map: Optional[ClassMap] = None
) -> Tensor:
    """
    The class of the largest of :func:`semantic_scores`, which are never in memory.

    Args: as there.

    Returns:
        (N, H, W) int32, ``semantic_scores(...).argmax(dim=1)``. Unlike the semantic map of
        :func:`panoptic_from_centers` it has no void: as in the scores, those channels do not count.
    """
    scale = frames.geometry(semantic_logits).output_to_map
    logits = semantic_logits if class_map is None else class_map.select(semantic_logits)
    return ops.resample_argmax(logits, frames.output_size, scale)


def _scale_points(points: Tensor, scale: Scale) -> Tensor:
    """(N, K, 2) integer points times a scale, float32."""
    y, x = points.float().unbind(dim=2)
    return torch.stack((y * scale[0], x * scale[1]), dim=2)
