"""The order of overlapping instances of one class, which a map of classes cannot tell apart."""

from typing import List

import torch
from torch import Tensor

from .merging import mask_bounds


def order_within_classes(
    rank_scores: Tensor, scores: Tensor, masks: Tensor, classes: Tensor
) -> Tensor:
    """
    Hand the ranking scores of overlapping instances of one class out by detection score.

    Not in the paper, whose ranking map has one channel for a class: two instances of it are
    compared by the mean of the same map over two masks with common pixels. Instances that overlap
    others of their class, also by way of a third, keep the same ranking scores as a group, so that
    other classes lie above or below it as before; within it the surest gets the highest.

    Args:
        rank_scores: (N,) float32.
        scores: (N,) of detection; ties go to the lower index.
        masks: (N, H, W) bool.
        classes: (N,) int64.

    Returns:
        (N,) float32, ranking scores.
    """
    ordered = rank_scores.clone()
    for group in find_groups(masks, classes):
        members = torch.tensor(group, device=scores.device)
        by_score = torch.sort(scores[members], descending=True, stable=True).indices
        ordered[members[by_score]] = rank_scores[members].sort(descending=True).values
    return ordered


def find_groups(masks: Tensor, classes: Tensor) -> List[List[int]]:
    """
    Args:
        masks: (N, H, W) bool.
        classes: (N,) int64.

    Returns:
        Instances of one class that overlap, directly or by way of others of it: two or more a
        group, ascending.
    """
    bounds, kinds = mask_bounds(masks).tolist(), classes.tolist()
    pairs, overlaps = [], []
    for second in range(len(kinds)):
        for first in range(second):
            if kinds[first] != kinds[second]:
                continue
            (top, bottom, left, right), other = bounds[first], bounds[second]
            rows = slice(max(top, other[0]), min(bottom, other[1]))
            columns = slice(max(left, other[2]), min(right, other[3]))
            if rows.start < rows.stop and columns.start < columns.stop:
                pairs.append((first, second))
                overlaps.append((masks[first, rows, columns] & masks[second, rows, columns]).any())
    # One transfer for all.
    do_overlap = torch.stack(overlaps).tolist() if overlaps else []
    groups = [{k} for k in range(len(kinds))]
    for (first, second), is_pair in zip(pairs, do_overlap):
        if is_pair and groups[first] is not groups[second]:
            groups[first] |= groups[second]
            for member in groups[second]:
                groups[member] = groups[first]
    return [sorted(group) for k, group in enumerate(groups) if len(group) > 1 and k == min(group)]
