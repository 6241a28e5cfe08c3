"""Two frames of a video to panoptic labels in which an object has one label."""

from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor

from .. import ops
from ..ops import PanopticSegmentation
from ..structures import ClassMap, Prediction
from .center_grouping import find_image_centers
from .geometry import Frames


class FramePair(NamedTuple):
    """
    Attributes:
        first: of the first frame, with the labels of both. Its instances have the class that most
            of their pixels in both frames have, and the area, box and probability that they have in
            this frame.
        second_map: (N, H, W) int32 panoptic labels of the second frame; -1 is void.
    """

    first: PanopticSegmentation
    second_map: Tensor


def panoptic_from_frame_pair(
    prediction: Prediction,
    frames: Frames,
    *,
    thing_ids: Sequence[int],
    label_divisor: int,
    stuff_area_limit: int,
    class_map: ClassMap,
    **center_options: Any,
) -> FramePair:
    """
    Panoptic labels of two frames that share their geometry.

    Reference: ViP-DeepLab (arXiv:2012.05258), Sec. 3.1, as DeepLab2 computes it: the frames stand
    side by side as one image, left the first. The pixels of both belong to the centers of the first
    frame; votes on classes, numbers of instances and the limit on stuff are of both together.

    Args:
        prediction: ``semantic_logits`` and ``next_semantic_logits`` (N, C, h, w),
            ``center_heatmap`` (N, 1, h, w) of the first frame, and ``center_offsets`` and
            ``next_center_offsets`` (N, 2, h, w) ``(dy, dx)`` in pixels of the map, from the pixels
            of the first and of the second frame to centers in the first.
        frames: of network input, image and output.
        thing_ids, label_divisor, stuff_area_limit, class_map: see :func:`panoptic_from_centers`.
        center_options: its further arguments on centers.

    Raises:
        ValueError: if an argument is not as above.
    """
    geometry = frames.geometry(prediction["semantic_logits"])
    centers = find_image_centers(prediction["center_heatmap"], frames, **center_options)
    own, following = (
        ops.panoptic_from_logits(
            prediction[f"{prefix}semantic_logits"],
            prediction[f"{prefix}center_offsets"],
            *centers,
            channel_to_class=class_map.channel_to_class,
            thing_ids=thing_ids,
            size=frames.output_size,
            scale=geometry.output_to_map,
            offset_scale=geometry.map_to_output,
            label_divisor=label_divisor,
            # The limit is on both frames together.
            stuff_area_limit=0,
            with_probability=not prefix,
        )
        for prefix in ("", "next_")
    )
    wide_map, joint = ops.merge_panoptic(
        torch.cat([own.semantic_map, following.semantic_map], dim=2),
        torch.cat([own.instance_map, following.instance_map], dim=2),
        centers[1],
        num_classes=class_map.num_classes,
        thing_ids=thing_ids,
        label_divisor=label_divisor,
        stuff_area_limit=stuff_area_limit,
    )
    first_map, second_map = wide_map.split(frames.output_size[1], dim=2)
    table = own.segments
    is_absent = (table.area == 0) | (joint.area == 0)
    segments = table._replace(
        panoptic_label=joint.panoptic_label.masked_fill(is_absent, ops.VOID_PANOPTIC_LABEL),
        category=joint.category.masked_fill(is_absent, -1),
        area=table.area.masked_fill(is_absent, 0),
        box=table.box.masked_fill(is_absent[:, :, None], 0),
        objectness=table.objectness.masked_fill(is_absent, 0.0),
        class_probability=table.class_probability.masked_fill(is_absent, 0.0),
    )
    first = own._replace(panoptic_map=first_map, segments=segments)
    return FramePair(first, second_map)
