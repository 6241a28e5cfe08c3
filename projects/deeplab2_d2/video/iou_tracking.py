"""Tracking by overlap: an instance goes on with the track whose last mask it covers most."""

from typing import NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..ops import linear_assignment
from ..structures import VOID_PANOPTIC_LABEL
from .mask_runs import MaskRuns, find_instance_masks, intersect_masks
from .optical_flow import Flow, warp_back
from .segment_runs import find_runs
from .tracking import relabel


class IouTrackState(NamedTuple):
    """
    What is known of the tracks of a video after a frame. It is the caller's: nothing changes it.

    Attributes:
        labels: (K,) int64, class * label_divisor + number of the track, oldest track first.
        ages: (K,) int64, frames without it since it was seen; 0 for those of the last frame.
        masks: of the tracks, where each was seen last.
        next_number: of the next new track.
        size: (height, width) of the frames; None before the first.
    """

    labels: np.ndarray
    ages: np.ndarray
    masks: MaskRuns
    next_number: int
    size: Optional[Tuple[int, int]]


def start_iou_tracks() -> IouTrackState:
    """The state before the first frame of a video."""
    none = np.zeros(0, np.int64)
    return IouTrackState(none, none, MaskRuns(none, none, none), 1, None)


def track_by_overlap(
    panoptic_map: Tensor,
    state: IouTrackState,
    *,
    label_divisor: int,
    iou_threshold: float = 0.3,
    keep_frames: int = 10,
    flow: Optional[Flow] = None,
) -> Tuple[Tensor, IouTrackState]:
    """
    Number the instances of a frame by their tracks, of any model that predicts single images.

    Reference: the IoU tracker of STEP (arXiv:2102.11859) as DeepLab2 has it, with its numbers: in
    each class instances and tracks are assigned so that the sum of intersections over unions with
    the tracks' last masks is largest, and pairs of ``iou_threshold`` or less are no match. With
    ``flow`` this frame's instances are first moved to where they were in the frame before, without
    what was hidden there; DeepLab2 does so with every pixel that a mask touches when it is
    interpolated, here with the nearest one.

    Args:
        panoptic_map: (H, W) integer, ``class * label_divisor + instance``; instance 0 is stuff or a
            crowd, negative labels are void.
        state: after the frame before.
        label_divisor: see above; numbers of tracks are below it.
        iou_threshold: see above, in [0, 1].
        keep_frames: a track goes on after as many frames without it, and no more.
        flow: from the frame before to this one, in pixels of this map.

    Returns:
        The map with numbers of tracks, of the dtype of ``panoptic_map``; and the state after this
        frame.

    Raises:
        ValueError: if a new track would need the number ``label_divisor``, or for a map of another
            size than the frame before.
    """
    if state.size not in (None, tuple(panoptic_map.shape)):
        raise ValueError(
            f"panoptic_map must be of the size of the frame before, {state.size}, "
            f"got {tuple(panoptic_map.shape)}"
        )
    runs = find_runs(panoptic_map)
    labels, masks = find_instance_masks(runs, label_divisor)
    moved = masks
    if flow is not None:
        moved_runs = find_runs(warp_back(panoptic_map, flow, outside=VOID_PANOPTIC_LABEL))
        _, moved = find_instance_masks(moved_runs, label_divisor, labels)
    ious = _intersections_over_unions(moved, state.masks, (len(labels), len(state.labels)))
    tracks, fresh = _match(
        labels // label_divisor, state.labels // label_divisor, ious, iou_threshold
    )
    numbers = state.next_number + np.arange(len(fresh))
    if len(fresh) and numbers[-1] >= label_divisor:
        raise ValueError(
            f"a video must have fewer than label_divisor = {label_divisor} tracks; this frame "
            f"would begin number {numbers[-1]}"
        )
    begun = labels[fresh] // label_divisor * label_divisor + numbers
    after = _continue(state, tracks, fresh, begun, masks, keep_frames)._replace(
        next_number=state.next_number + len(fresh), size=runs.size
    )
    numbered = np.concatenate([state.labels, begun])[tracks]
    values = relabel(runs.labels[:, 0], labels, numbered).to(panoptic_map.dtype)
    return runs.fill(values), after


def _intersections_over_unions(
    masks: MaskRuns, others: MaskRuns, shape: Tuple[int, int]
) -> np.ndarray:
    """(S, K) float64; 0 where one of the two is empty."""
    common = intersect_masks(masks, others, shape)
    unions = masks.areas(shape[0])[:, None] + others.areas(shape[1])[None] - common
    return common / np.maximum(unions, 1)


def _match(
    classes: np.ndarray, track_classes: np.ndarray, ious: np.ndarray, iou_threshold: float
) -> Tuple[np.ndarray, np.ndarray]:
    """
    The track of each instance, and which instances (F,) begin one.

    These count on behind the tracks that there are, in the order in which DeepLab2 numbers them: by
    class, first those that were assigned to no track at all.
    """
    tracks = np.full(len(classes), -1, np.int64)
    fresh = []
    for label in np.unique(classes):
        rows, columns = np.flatnonzero(classes == label), np.flatnonzero(track_classes == label)
        if len(columns) == 0:
            fresh.append(rows)
            continue
        overlaps = ious[np.ix_(rows, columns)]
        chosen = linear_assignment(torch.from_numpy(-overlaps)[None])[0].numpy()
        is_match = (chosen >= 0) & (overlaps[np.arange(len(rows)), chosen] > iou_threshold)
        tracks[rows[is_match]] = columns[chosen[is_match]]
        fresh += [rows[chosen < 0], rows[(chosen >= 0) & ~is_match]]
    begins = np.concatenate([np.zeros(0, np.int64), *fresh])
    tracks[begins] = len(track_classes) + np.arange(len(begins))
    return tracks, begins


def _continue(
    state: IouTrackState,
    tracks: np.ndarray,
    fresh: np.ndarray,
    begun: np.ndarray,
    masks: MaskRuns,
    keep_frames: int,
) -> IouTrackState:
    """The state with this frame's masks (of ``tracks``), new tracks, and without the lost ones."""
    ages = np.concatenate([state.ages + 1, np.zeros(len(fresh), np.int64)])
    ages[tracks] = 0
    is_kept = ages <= keep_frames
    places = np.cumsum(is_kept) - 1
    is_old = (is_kept & (ages > 0))[state.masks.owners]
    old = MaskRuns(*(column[is_old] for column in state.masks))
    owners = np.concatenate([tracks[masks.owners], old.owners])
    merged = MaskRuns(
        places[owners],
        np.concatenate([masks.starts, old.starts]),
        np.concatenate([masks.ends, old.ends]),
    )
    labels = np.concatenate([state.labels, begun])
    return state._replace(labels=labels[is_kept], ages=ages[is_kept], masks=merged)
