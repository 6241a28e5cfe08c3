"""Stitching: the instances of a frame take over the numbers that a pair of frames gave them."""

from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .segment_runs import SegmentRuns, find_runs


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
    overlaps = _find_overlaps(pair_map, own_map, label_divisor)
    is_instance, numbers = overlaps.own_instances(), overlaps.own_labels % label_divisor
    largest = numbers.max(initial=0, where=is_instance)
    if largest + number_offset >= label_divisor:
        raise ValueError(
            f"numbers of instances must be below label_divisor - number_offset = "
            f"{label_divisor - number_offset}, got {largest}"
        )
    stitched = overlaps.own_labels + np.where(is_instance, number_offset, 0)
    for own_label, pair_label in overlaps.match().items():
        stitched[overlaps.own_labels == own_label] = pair_label
    return overlaps.fill(stitched, own_map)


class StitchState(NamedTuple):
    """
    What the next frame of a video is stitched to. It is the caller's: nothing changes it.

    Attributes:
        pair_map: (H, W) integer labels of the next frame with the numbers of tracks, from the
            prediction on it and the frame before; negative where it has no track.
        next_number: of the next new track.
    """

    pair_map: Tensor
    next_number: int


def continue_stitching(
    own_map: Tensor, next_map: Tensor, state: Optional[StitchState], *, label_divisor: int
) -> Tuple[Tensor, StitchState]:
    """
    Number the instances of a frame by their tracks.

    The rule is that of :func:`stitch`, but instances without a partner begin tracks of numbers that
    no other has had, so that a video may have any length.

    Args:
        own_map, next_map: (H, W) integer labels ``class * label_divisor + number`` of the frame and
            of the next one, from one prediction on both: equal labels are the same instance.
            Number 0 is stuff or a crowd, negative labels are void.
        state: after the frame before; None begins a video.
        label_divisor: see above; numbers of tracks are below it.

    Returns:
        The map with numbers of tracks, of the dtype of ``own_map``, and the state after it.

    Raises:
        ValueError: if a new track would need the number ``label_divisor``, or if sizes differ.
    """
    before = torch.full_like(own_map, -1) if state is None else state.pair_map
    next_number = 1 if state is None else state.next_number
    overlaps = _find_overlaps(before, own_map, label_divisor)
    tracks = overlaps.match()
    for label in np.unique(overlaps.own_labels[overlaps.own_instances()]).tolist():
        if label not in tracks:
            if next_number >= label_divisor:
                raise ValueError(
                    f"a video must have fewer than label_divisor = {label_divisor} tracks; this "
                    "frame begins one more"
                )
            tracks[label] = label // label_divisor * label_divisor + next_number
            next_number += 1
    tracked = np.array([tracks.get(label, label) for label in overlaps.own_labels.tolist()])
    runs = find_runs(next_map)
    labels, index = torch.unique(runs.labels[:, 0], return_inverse=True)
    # What the frame itself does not show cannot be recognized in the next one.
    followed = torch.tensor([tracks.get(label, -1) for label in labels.tolist()])
    pair_map = runs.fill(followed.to(index.device)[index].to(next_map.dtype))
    return overlaps.fill(tracked, own_map), StitchState(pair_map, next_number)


class _Overlaps(NamedTuple):
    """
    The P combinations of labels that two maps have at a pixel, sorted by the labels.

    Attributes:
        pair_labels, own_labels: (P,) int64.
        areas: (P,) int64 pixels that have both.
        label_divisor: see :func:`stitch`.
        runs: of equal pixels.
        index: (R,) combination of each run.
    """

    pair_labels: np.ndarray
    own_labels: np.ndarray
    areas: np.ndarray
    label_divisor: int
    runs: SegmentRuns
    index: Tensor

    def own_instances(self) -> np.ndarray:
        """(P,) whether ``own_labels`` are instances."""
        return _is_instance(self.own_labels, self.label_divisor)

    def match(self) -> Dict[int, int]:
        """Each own label that has a partner to that label of the pair."""
        same_class = self.pair_labels // self.label_divisor == self.own_labels // self.label_divisor
        is_pair = _is_instance(self.pair_labels, self.label_divisor)
        chosen = np.flatnonzero(is_pair & self.own_instances() & same_class)
        unions = -self.areas
        for labels in (self.pair_labels, self.own_labels):
            unions = unions + _area_of_each(labels, self.areas)
        overlaps = self.areas / unions
        # Combinations are sorted by label, and the sort is stable: of equal ones the last counts.
        chosen = chosen[np.argsort(overlaps[chosen], kind="stable")]
        pair_labels, own_labels = self.pair_labels[chosen], self.own_labels[chosen]
        best_of_pair = dict(zip(pair_labels.tolist(), own_labels.tolist()))
        best_of_own = dict(zip(own_labels.tolist(), pair_labels.tolist()))
        return {own: pair for pair, own in best_of_pair.items() if best_of_own[own] == pair}

    def fill(self, values: np.ndarray, like: Tensor) -> Tensor:
        """(H, W) of a value (P,) for each combination, of the dtype and device of ``like``."""
        return self.runs.fill(torch.from_numpy(values).to(like.device)[self.index].to(like.dtype))


def _find_overlaps(pair_map: Tensor, own_map: Tensor, label_divisor: int) -> _Overlaps:
    runs = find_runs(pair_map, own_map)
    pair_of_run, own_of_run = runs.labels.unbind(dim=1)
    # One number for both, in the order of both; labels are 32 bits.
    keys, index = torch.unique(pair_of_run * 2**32 + own_of_run, return_inverse=True)
    areas = runs.lengths.new_zeros(len(keys)).index_add_(0, index, runs.lengths)
    combinations = runs.labels.new_zeros(len(keys), 2).index_copy_(0, index, runs.labels)
    pair_labels, own_labels = combinations.cpu().numpy().T
    return _Overlaps(pair_labels, own_labels, areas.cpu().numpy(), label_divisor, runs, index)


def _is_instance(labels: np.ndarray, label_divisor: int) -> np.ndarray:
    return (labels >= 0) & (labels % label_divisor > 0)


def _area_of_each(labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The whole area of each combination's label."""
    _, index = np.unique(labels, return_inverse=True)
    return np.bincount(index, weights=areas)[index]
