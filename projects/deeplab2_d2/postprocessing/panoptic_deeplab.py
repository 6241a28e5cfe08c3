"""Panoptic-DeepLab post-processing: head outputs to panoptic labels of the original image."""

import functools
from typing import Optional, Sequence

import torch
from torch import Tensor

from .. import ops
from ..ops import PanopticSegmentation
from ..structures import ClassMap, PanopticDeepLabPrediction, identity_class_map
from .geometry import FrameGeometry, Scale, Size


def postprocess_panoptic(
    prediction: PanopticDeepLabPrediction,
    *,
    input_size: Size,
    image_size: Size,
    output_size: Size,
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
    Panoptic labels of a batch of images that share their sizes.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.2 and 3.3. Centers are detected on the
    network input's grid, as DeepLab2 does, then moved to the output; everything else is computed at
    output resolution. Where the three sizes are one, the maps are those of DeepLab2 (with
    ``merge_semantic_and_instance_with_tf_op`` off). No step waits for the GPU, unless
    ``top_k_centers`` is 0 or less.

    Args:
        prediction: raw head outputs; semantic-only predictions are refused.
        input_size: (H, W) of the padded network input, which the heads' maps cover.
        image_size: (H, W) of the image within the network input, at its upper left.
        output_size: (H, W) of the original image.
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
    if prediction.center_heatmap is None or prediction.center_offsets is None:
        raise ValueError(
            "postprocess_panoptic: prediction must have center_heatmap and center_offsets, got a "
            "semantic-only prediction; see semantic_scores"
        )
    if class_map is None:
        class_map = identity_class_map(prediction.semantic_logits.shape[1])
    geometry = FrameGeometry(
        map_size=_map_size(prediction),
        input_size=input_size,
        image_size=image_size,
        output_size=output_size,
    )
    centers, center_scores, num_centers = ops.find_centers(
        prediction.center_heatmap[:, 0],
        image_size,
        geometry.image_to_map,
        threshold=center_threshold,
        nms_kernel=nms_kernel,
        top_k=top_k_centers,
    )
    return ops.panoptic_from_logits(
        prediction.semantic_logits,
        prediction.center_offsets,
        _scale_points(centers, geometry.image_to_output),
        center_scores,
        num_centers,
        channel_to_class=class_map.channel_to_class,
        thing_ids=thing_ids,
        size=output_size,
        scale=geometry.output_to_map,
        offset_scale=geometry.map_to_output,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
        with_probability=with_probability,
    )


def postprocess_full_resolution(
    semantic_scores: Tensor,
    center_heatmap: Tensor,
    center_offsets: Tensor,
    **options: object,
) -> PanopticSegmentation:
    """
    The same for maps that already have the output's resolution, as after test-time averaging.

    Args:
        semantic_scores: (N, C, H, W) float, logits or log-probabilities. Probabilities give the
            same maps, but not the same class probabilities.
        center_heatmap: (N, 1, H, W) float.
        center_offsets: (N, 2, H, W) float ``(dy, dx)`` in pixels of these maps.
        options: those of `postprocess_panoptic`, without the sizes.
    """
    prediction = PanopticDeepLabPrediction(semantic_scores, center_heatmap, center_offsets)
    size = _map_size(prediction)
    postprocess = functools.partial(postprocess_panoptic, prediction, **options)  # type: ignore
    return postprocess(input_size=size, image_size=size, output_size=size)


def semantic_scores(
    semantic_logits: Tensor,
    *,
    input_size: Size,
    image_size: Size,
    output_size: Size,
    class_map: Optional[ClassMap] = None,
) -> Tensor:
    """
    Semantic logits at output resolution, as Detectron2's ``sem_seg``.

    Args:
        semantic_logits: (N, C, h, w) float, raw head output.
        input_size, image_size, output_size: as in `postprocess_panoptic`.
        class_map: classes of the channels; void channels are left out. None if channel i is
            class i.

    Returns:
        (N, num_classes, H, W) float32.
    """
    geometry = FrameGeometry(
        map_size=(semantic_logits.shape[-2], semantic_logits.shape[-1]),
        input_size=input_size,
        image_size=image_size,
        output_size=output_size,
    )
    if class_map is not None and not class_map.is_identity:
        semantic_logits = _select_classes(semantic_logits, class_map)
    return ops.resample_aligned(semantic_logits, output_size, geometry.output_to_map)


def _select_classes(semantic_logits: Tensor, class_map: ClassMap) -> Tensor:
    """(N, num_classes, h, w): the channels in the order of their classes."""
    channels = [class_map.channel_to_class.index(c) for c in range(class_map.num_classes)]
    return semantic_logits[:, channels]


def _map_size(prediction: PanopticDeepLabPrediction) -> Size:
    return prediction.semantic_logits.shape[-2], prediction.semantic_logits.shape[-1]


def _scale_points(points: Tensor, scale: Scale) -> Tensor:
    """(N, K, 2) integer points times a scale, float32."""
    y, x = points.float().unbind(dim=2)
    return torch.stack((y * scale[0], x * scale[1]), dim=2)
