"""One row of a sheet for Panoptic-DeepLab: image, ground truth, prediction, heatmap, offsets."""

from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .pictures import (
    Array,
    draw_boundaries,
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic,
    overlay,
    to_numpy,
)

Panoptic = Tuple[Array, Sequence[Mapping[str, Any]]]

ROW_TITLES = ("image", "ground truth", "prediction", "center heatmap", "offsets")


def draw_panoptic_overlay(image: Array, panoptic_seg: Panoptic, colors: Array) -> np.ndarray:
    """
    A panoptic segmentation over its image, with the outlines of segments.

    Args:
        image: (3, H, W) or (H, W, 3), RGB 0..255.
        panoptic_seg: Detectron2's pair: (H, W) segment ids and ``segments_info``.
        colors: (C, 3) RGB by contiguous class id.

    Returns:
        (H, W, 3) uint8.
    """
    segment_map, segments_info = panoptic_seg
    picture = overlay(image, draw_panoptic(segment_map, segments_info, colors))
    return draw_boundaries(picture, segment_map)


def panoptic_deeplab_row(
    image: Array,
    *,
    colors: Array,
    prediction: Panoptic,
    ground_truth: Optional[Panoptic] = None,
    center_heatmap: Optional[Array] = None,
    center_offsets: Optional[Array] = None,
    thing_ids: Sequence[int] = (),
) -> List[np.ndarray]:
    """
    Pictures of one image, in the order of :data:`ROW_TITLES`; white where there is nothing to show.

    Args:
        image: (3, H, W) or (H, W, 3), RGB 0..255.
        colors: (C, 3) RGB by contiguous class id.
        prediction, ground_truth: see :func:`draw_panoptic_overlay`; of the image's size.
        center_heatmap: (H, W) or (1, H, W), of any size.
        center_offsets: (2, H, W) ``(dy, dx)``, of any size. If it has the prediction's size, only
            offsets of pixels that are predicted as things are shown.
        thing_ids: contiguous ids of things.
    """
    base = draw_image(image)
    blank = np.full_like(base, 255)
    row = [base, blank, draw_panoptic_overlay(image, prediction, colors), blank, blank]
    if ground_truth is not None:
        row[1] = draw_panoptic_overlay(image, ground_truth, colors)
    if center_heatmap is not None:
        row[3] = draw_heatmap(center_heatmap)
    if center_offsets is not None:
        row[4] = draw_offsets(
            center_offsets, mask=_things(prediction, thing_ids, center_offsets.shape[-2:])
        )
    return row


def _things(
    panoptic_seg: Panoptic, thing_ids: Sequence[int], size: Sequence[int]
) -> Optional[np.ndarray]:
    segment_map = to_numpy(panoptic_seg[0])
    if not thing_ids or segment_map.shape != tuple(size):
        return None
    ids = [segment["id"] for segment in panoptic_seg[1] if segment["category_id"] in thing_ids]
    return np.isin(segment_map, ids)
