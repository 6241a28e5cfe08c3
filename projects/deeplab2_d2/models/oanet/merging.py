"""Instances and stuff to one panoptic map."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor

# Detectron2's (map, segments_info).
Panoptic = Tuple[Tensor, List[Dict[str, Any]]]


def merge_instances_and_stuff(
    instances: Instances,
    semantic_map: Tensor,
    *,
    stuff_ids: Sequence[int],
    rank_scores: Optional[Tensor] = None,
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area_limit: int = 4096,
    is_stuff_connected: bool = False,
) -> Panoptic:
    """
    Paint instances one over the other, the highest rank on top, and stuff where none is.

    Without ``rank_scores`` and with stuff by the total of a class, this is Detectron2's
    ``combine_semantic_and_instance_outputs``, but for segments without a pixel: there are none,
    whatever the thresholds.

    Reference: OANet (arXiv:1903.05027), Sec. 3.2, 4.2. The paper's thresholds of scores and
    overlap are not known; the defaults are Detectron2's.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, ``pred_classes`` (N,), ``scores`` (N,), those of
            detection.
        semantic_map: (H, W) integer, classes.
        stuff_ids: those classes of the map that are painted; others stay void.
        rank_scores: (N,) ranking scores. They decide the order; ties go to the higher detection
            score, further ties to the lower index. None: detection scores decide.
        score_threshold: instances of a lower detection score are left out.
        overlap_threshold: an instance is left out if a larger part of it is covered already.
        stuff_area_limit: stuff of fewer uncovered pixels stays void.
        is_stuff_connected: the limit is of connected areas (8 neighbours, OpenCV), not of a
            class's total.

    Returns:
        The map, (H, W) int32 of segment ids from 1, 0 is void, and ``segments_info``: things in
        the order of painting with ``score``, ``instance_id`` and, if there are ranking scores,
        ``rank_score``; then stuff by class, with ``area``.

    Raises:
        ValueError: if the sizes of masks, map and scores differ.
    """
    masks, scores = instances.pred_masks, instances.scores
    if masks.dim() != 3 or masks.shape[1:] != semantic_map.shape:
        raise ValueError(
            "merge_instances_and_stuff: pred_masks must be (N, H, W) of the size of semantic_map "
            f"{tuple(semantic_map.shape)}, got {tuple(masks.shape)}"
        )
    if rank_scores is not None and rank_scores.shape != scores.shape:
        raise ValueError(
            f"merge_instances_and_stuff: rank_scores must be {tuple(scores.shape)} like scores, "
            f"got {tuple(rank_scores.shape)}"
        )
    order = paint_order(scores, rank_scores, score_threshold)
    painted, is_kept = paint_instances(masks.bool(), order, overlap_threshold)
    # What the host must know, in one transfer: (order, kept, class, score, rank) of each.
    ranks = scores if rank_scores is None else rank_scores
    table = torch.stack(
        [
            order.double(),
            is_kept.double(),
            instances.pred_classes[order].double(),
            scores[order].double(),
            ranks[order].double(),
        ]
    )
    segments: List[Dict[str, Any]] = []
    for index, kept, category, score, rank in table.t().tolist():
        if not kept:
            continue
        segment = {
            "id": len(segments) + 1,
            "isthing": True,
            "score": score,
            "category_id": int(category),
            "instance_id": int(index),
        }
        segments.append(segment if rank_scores is None else {**segment, "rank_score": rank})
    limit = max(stuff_area_limit, 1)
    labels = _free_labels(semantic_map, painted != 0, stuff_ids)
    if is_stuff_connected:
        labels = drop_small_areas(labels, limit)
    return _add_stuff(painted, labels, segments, stuff_ids, limit)


def paint_order(
    scores: Tensor, rank_scores: Optional[Tensor] = None, score_threshold: float = 0.0
) -> Tensor:
    """
    Args:
        scores: (N,) detection scores.
        rank_scores, score_threshold: see :func:`merge_instances_and_stuff`.

    Returns:
        (K,) int64 indices of the instances that are painted, the top one first.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    if rank_scores is not None:
        by_rank = torch.sort(rank_scores[order], descending=True, stable=True).indices
        order = order[by_rank]
    # In float64, as Python compares a score with a threshold.
    return order[~(scores[order].double() < score_threshold)]


def paint_instances(
    masks: Tensor, order: Tensor, overlap_threshold: float
) -> Tuple[Tensor, Tensor]:
    """
    Args:
        masks: (N, H, W) bool.
        order: (K,) indices, the top instance first.
        overlap_threshold: see :func:`merge_instances_and_stuff`.

    Returns:
        (H, W) int32, the place of a pixel's instance among those kept, from 1, and 0 where there
        is none; (K,) bool, whether an instance is kept.
    """
    # As bytes, whose arithmetic is vectorised where that of bool is not.
    bytes_ = masks.contiguous().view(torch.uint8)
    painted = masks.new_zeros(masks.shape[1:], dtype=torch.int32)
    is_free = torch.ones_like(painted, dtype=torch.uint8)
    is_kept = masks.new_zeros(len(order))
    count = painted.new_zeros(())
    is_on_host = masks.device.type == "cpu"
    boxes = mask_bounds(masks)[order].tolist()
    for place, (index, (top, bottom, left, right)) in enumerate(zip(order.tolist(), boxes)):
        # In the mask's own box only. Nothing is read back from a GPU inside of the loop.
        box = (slice(top, bottom), slice(left, right))
        mask = bytes_[index][box]
        free = mask & is_free[box]
        # Faster than count_nonzero.
        area, visible = mask.sum(dtype=torch.int32), free.sum(dtype=torch.int32)
        kept = (visible > 0) & ~((area - visible).double() / area.double() > overlap_threshold)
        if is_on_host and not kept:
            continue
        count = count + kept
        shown = free if is_on_host else free * kept
        is_free[box] -= shown
        painted[box].masked_fill_(shown.view(torch.bool), count)
        is_kept[place] = kept
    return painted, is_kept


def mask_bounds(masks: Tensor) -> Tensor:
    """
    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) int64 ``(top, bottom, left, right)``, the smallest box with all of a mask, bottom
        and right outside; zeros of an empty mask.
    """
    # The maximum of bytes is vectorised, `any` of bool is not.
    bytes_ = masks.contiguous().view(torch.uint8)
    if 0 in masks.shape:
        return torch.zeros((len(masks), 4), dtype=torch.int64, device=masks.device)
    vertical = _used_range(bytes_.amax(dim=2))
    # Columns of the rows that are used: a fraction of what the masks are.
    columns = [
        mask[top : max(bottom, 1)].amax(dim=0)
        for mask, (top, bottom) in zip(bytes_, vertical.tolist())
    ]
    return torch.cat([vertical, _used_range(torch.stack(columns))], dim=1)


def _used_range(used: Tensor) -> Tensor:
    """(N, L) uint8 to (N, 2) int64: the first place that is not 0, and the one after the last."""
    length, first = used.shape[1], used.argmax(dim=1)
    end = (length - used.flip(1).argmax(dim=1)) * used.amax(dim=1)
    return torch.stack([first, end], dim=1)


def drop_small_areas(labels: Tensor, area_limit: int) -> Tensor:
    """
    Args:
        labels: (H, W) int32, below 65536; 0 is no area.
        area_limit: least number of pixels of an area, of one label and connected by 8 neighbours.

    Returns:
        The same, 0 in smaller areas. Computed by OpenCV on the CPU.
    """
    import cv2

    array = labels.cpu().numpy().astype(np.uint16)
    for label in np.flatnonzero(np.bincount(array.ravel())):
        if label == 0:
            continue
        is_label = (array == label).view(np.uint8)
        left, top, width, height = cv2.boundingRect(is_label)
        box = (slice(top, top + height), slice(left, left + width))
        _, areas = cv2.connectedComponents(is_label[box], connectivity=8)
        # Faster than OpenCV's statistics.
        is_small = np.bincount(areas.ravel()) < area_limit
        is_small[0] = False  # Area 0 is what has another label.
        if is_small.any():
            array[box][is_small[areas]] = 0
    return torch.from_numpy(array.astype(np.int32)).to(labels.device)


def _free_labels(semantic_map: Tensor, is_taken: Tensor, stuff_ids: Sequence[int]) -> Tensor:
    """(H, W) int32: 1 + class of the free pixels; 0 elsewhere. Above stuff, all have one label."""
    # Filling is vectorised, the product with bool is not.
    labels = semantic_map.clamp(-1, max([*stuff_ids, -1]) + 1).int().add_(1)
    return labels.masked_fill_(is_taken, 0)


def _add_stuff(
    painted: Tensor,
    labels: Tensor,
    segments: List[Dict[str, Any]],
    stuff_ids: Sequence[int],
    area_limit: int,
) -> Panoptic:
    areas = torch.bincount(labels.flatten(), minlength=max([*stuff_ids, -1]) + 3).tolist()
    ids = [0] * len(areas)
    for stuff_id in sorted(stuff_ids):
        area = areas[stuff_id + 1]
        if area >= area_limit:
            ids[stuff_id + 1] = len(segments) + 1
            segments.append(
                {"id": len(segments) + 1, "isthing": False, "category_id": stuff_id, "area": area}
            )
    table = torch.tensor(ids, dtype=torch.int32, device=painted.device)
    # Of a pixel either is 0.
    return painted.add_(table.index_select(0, labels.flatten()).view_as(painted)), segments
