"""Stitching: the instances of a frame take over the numbers that a pair of frames gave them."""

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .segment_runs import find_runs


def stitch(
    pair_map: Tensor, own_map: Tensor, *, label_divisor: int, number_offset: Optional[int] = None
) -> Tensor:
    """
    The labels of a frame, with the numbers of the pair where instances are the same.

    Reference: ViP-DeepLab (arXiv:2012.05258), Sec. 3.2: two segments of one class are the same if
    each overlaps most (intersection over union) with the other. As in DeepLab2, of equal overlaps
    the larger label wins, and instances without a partner have ``number_offset`` added to their
    number, so that they cannot meet those of the frames before.

    Args:
        pair_map: (H, W) integer, the frame's labels from the prediction on it and the one before:
            ``class * label_divisor + number``, number 0 for stuff and crowds, negative for void.
        own_map: (H, W) integer, its labels from the prediction on it and the one after.
        label_divisor: see above.
        number_offset: None: half of ``label_divisor``.

    Returns:
        (H, W) of the dtype of ``own_map``.

    Raises:
        ValueError: if a number would reach ``label_divisor``, or if sizes differ.
    """
    if number_offset is None:
        number_offset = label_divisor // 2
    runs = find_runs(pair_map, own_map)
    pair_of_run, own_of_run = runs.labels.unbind(dim=1)
    # One number for both, in the order of both; labels are 32 bits.
    keys, index = torch.unique(pair_of_run * 2**32 + own_of_run, return_inverse=True)
    areas = runs.lengths.new_zeros(len(keys)).index_add_(0, index, runs.lengths)
    combinations = runs.labels.new_zeros(len(keys), 2).index_copy_(0, index, runs.labels)
    pair_labels, own_labels = combinations.cpu().numpy().T
    stitched = _renumber(
        pair_labels,
        own_labels,
        areas.cpu().numpy(),
        label_divisor=label_divisor,
        number_offset=number_offset,
    )
    values = torch.from_numpy(stitched).to(own_map.device)[index]
    return runs.fill(values.to(own_map.dtype))


def _renumber(
    pair_labels: np.ndarray,
    own_labels: np.ndarray,
    areas: np.ndarray,
    *,
    label_divisor: int,
    number_offset: int,
) -> np.ndarray:
    """The label of each combination (P,) of labels, of which there are ``areas`` pixels."""
    is_instance = [(a >= 0) & (a % label_divisor > 0) for a in (pair_labels, own_labels)]
    numbers = own_labels[is_instance[1]] % label_divisor + number_offset
    if len(numbers) and numbers.max() >= label_divisor:
        raise ValueError(
            f"numbers of instances must be below label_divisor - number_offset = "
            f"{label_divisor - number_offset}, got {numbers.max() - number_offset}"
        )
    stitched = own_labels + np.where(is_instance[1], number_offset, 0)
    same_class = pair_labels // label_divisor == own_labels // label_divisor
    chosen = np.flatnonzero(is_instance[0] & is_instance[1] & same_class)
    unions = _area_of_each(pair_labels, areas) + _area_of_each(own_labels, areas) - areas
    overlaps = areas / unions
    # Combinations are sorted by label, and the sort is stable: of equal ones the last counts.
    chosen = chosen[np.argsort(overlaps[chosen], kind="stable")]
    best_of_pair = dict(zip(pair_labels[chosen].tolist(), own_labels[chosen].tolist()))
    best_of_own = dict(zip(own_labels[chosen].tolist(), pair_labels[chosen].tolist()))
    for pair_label, own_label in best_of_pair.items():
        if best_of_own[own_label] == pair_label:
            stitched[own_labels == own_label] = pair_label
    return stitched


def _area_of_each(labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The whole area of each combination's label."""
    _, index = np.unique(labels, return_inverse=True)
    return np.bincount(index, weights=areas)[index]
