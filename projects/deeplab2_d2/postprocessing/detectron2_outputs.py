"""Labels and scores in the form that Detectron2's evaluators and visualizer take."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..ops import PanopticSegmentation, SlotSegmentation
from ..structures import SEMANTIC_LABELS, ClassMap
from .center_grouping import semantic_labels, semantic_scores
from .geometry import Frames

SegmentsInfo = List[Dict[str, Any]]


def to_panoptic_seg(
    result: Union[PanopticSegmentation, SlotSegmentation], index: int, *, label_divisor: int
) -> Tuple[Tensor, SegmentsInfo]:
    """
    One image's ``panoptic_seg``.

    Args:
        result: of a batch.
        index: of the image.
        label_divisor: that ``result`` was made with.

    Returns:
        A map and a list. The map is (H, W) int32: the panoptic label + 1, so that void is 0. The
        list has a dict for each segment, in the order of the map's values: ``id`` (in the map),
        ``category_id`` (contiguous), ``isthing``, ``instance_id`` (number within its class, 0 for
        stuff), ``area`` (pixels), ``bbox`` ``[x, y, width, height]`` and ``score``: objectness
        times mean class probability. Objectness is that of the segment table, cut to [0, 1]: a
        heatmap is learnt by regression, which may pass 1. Of stuff from a semantic map it is 1.

    Raises:
        ValueError: if a class has as many instances as the divisor or more: the labels of the next
            class would be hit.
    """
    table = result.segments
    num_instance_rows = result.num_instance_rows
    rows = torch.nonzero(table.area[index] > 0)[:, 0]
    objectness = table.objectness[index, rows].clamp(0.0, 1.0)
    scores = objectness * table.class_probability[index, rows].clamp(max=1.0)
    columns = (
        rows.tolist(),
        table.panoptic_label[index, rows].tolist(),
        table.category[index, rows].tolist(),
        table.area[index, rows].tolist(),
        table.box[index, rows].tolist(),
        scores.tolist(),
    )
    segments: SegmentsInfo = []
    for row, label, category, area, (top, left, bottom, right), score in zip(*columns):
        segments.append(
            {
                "id": label + 1,
                "category_id": category,
                "isthing": row < num_instance_rows,
                "instance_id": label - category * label_divisor,
                "area": area,
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
            }
        )
    _check_numbers(segments, label_divisor)
    segments.sort(key=lambda segment: segment["id"])
    return result.panoptic_map[index] + 1, segments


def to_semantic_outputs(
    semantic_logits: Tensor,
    frames: Frames,
    wanted: Sequence[str],
    *,
    class_map: Optional[ClassMap] = None,
) -> Dict[str, Any]:
    """
    Those of one image's ``sem_seg`` and ``sem_seg_labels`` that are wanted.

    Args:
        semantic_logits: (1, C, h, w) float, which covers the network input.
        frames, class_map: see :func:`semantic_scores`.
        wanted: names of outputs; others are left to the caller.
    """
    output: Dict[str, Any] = {}
    if "sem_seg" in wanted:
        output["sem_seg"] = semantic_scores(semantic_logits, frames, class_map=class_map)[0]
    if SEMANTIC_LABELS in wanted:
        output[SEMANTIC_LABELS] = semantic_labels(semantic_logits, frames, class_map=class_map)[0]
    return output


def to_panoptic_outputs(
    result: Union[PanopticSegmentation, SlotSegmentation],
    index: int,
    wanted: Sequence[str],
    *,
    label_divisor: int,
) -> Dict[str, Any]:
    """
    Those of one image's ``panoptic_seg`` and ``instances`` that are wanted.

    Args:
        result, index, label_divisor: see :func:`to_panoptic_seg`.
        wanted: names of outputs; others are left to the caller.
    """
    output: Dict[str, Any] = {}
    if not {"panoptic_seg", "instances"} & set(wanted):
        return output
    panoptic_map, segments = to_panoptic_seg(result, index, label_divisor=label_divisor)
    if "panoptic_seg" in wanted:
        output["panoptic_seg"] = (panoptic_map, segments)
    if "instances" in wanted:
        output["instances"] = to_instances(panoptic_map, segments)
    return output


def _check_numbers(segments: Sequence[Dict[str, Any]], label_divisor: int) -> None:
    for segment in segments:
        if segment["instance_id"] >= label_divisor:
            raise ValueError(
                f"class {segment['category_id']} has an instance number {segment['instance_id']}: "
                f"it must be below the label divisor {label_divisor}"
            )


def to_instances(panoptic_map: Tensor, segments: SegmentsInfo) -> Instances:
    """
    The things of one image's ``panoptic_seg`` as ``instances``.

    Args:
        panoptic_map: (H, W) integer, segment ids.
        segments: as from :func:`to_panoptic_seg`.

    Returns:
        Best score first, on the map's device: ``pred_masks`` (K, H, W) bool, ``pred_boxes``
        (x0, y0, x1, y1) in pixels, ``pred_classes`` (K,) int64, ``scores`` (K,) float32.
    """
    things = [segment for segment in segments if segment["isthing"]]
    things.sort(key=lambda segment: -segment["score"])
    device = panoptic_map.device
    height, width = panoptic_map.shape
    ids = torch.tensor([thing["id"] for thing in things], dtype=torch.int32, device=device)
    boxes = torch.tensor([thing["bbox"] for thing in things], dtype=torch.float32, device=device)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances((height, width))
    instances.pred_masks = panoptic_map[None] == ids[:, None, None]
    instances.pred_boxes = Boxes(boxes)
    instances.pred_classes = torch.tensor(
        [thing["category_id"] for thing in things], dtype=torch.int64, device=device
    )
    instances.scores = torch.tensor(
        [thing["score"] for thing in things], dtype=torch.float32, device=device
    )
    return instances
