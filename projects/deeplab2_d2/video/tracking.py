"""Online tracking: the instances of a frame go on with the tracks of the frames before."""

from typing import NamedTuple, Tuple

import numpy as np
import torch
from torch import Tensor

from .segment_runs import Segments, find_runs, find_segments


class TrackState(NamedTuple):
    """
    What is known of the tracks of a video after a frame. It is the caller's: nothing changes it.

    Attributes:
        labels: (K,) int64, class * label_divisor + number of the track.
        centers: (K, 2) int64 ``(y, x)``, where each was seen last.
        reaches: (K,) int64, height times width of its box then, each less one: the square of the
            distance within which it goes on.
        ages: (K,) int64, frames since then; 1 for those of the last frame.
        next_number: of the next new track.
    """

    labels: np.ndarray
    centers: np.ndarray
    reaches: np.ndarray
    ages: np.ndarray
    next_number: int


def start_tracks() -> TrackState:
    """The state before the first frame of a video."""
    none = np.zeros(0, np.int64)
    return TrackState(none, np.zeros((0, 2), np.int64), none, none, 1)


def continue_tracks(
    panoptic_map: Tensor,
    frame_offsets: Tensor,
    state: TrackState,
    *,
    label_divisor: int,
    keep_frames: int = 7,
) -> Tuple[Tensor, TrackState, Segments]:
    """
    Number the instances of a frame by their tracks.

    Reference: STEP (arXiv:2102.11859), Sec. 4, as DeepLab2 computes it: in the order of their first
    pixels, instances move by the offset at their center and take the nearest track of their class
    that no other has taken, if it is within reach; else they begin a track.

    Args:
        panoptic_map: (H, W) integer, ``class * label_divisor + instance``; instance 0 is stuff or a
            crowd, negative labels are void.
        frame_offsets: (2, H, W) float ``(dy, dx)`` to the center in the frame before, in pixels of
            this map.
        state: after the frame before.
        label_divisor: see above; numbers of tracks are below it.
        keep_frames: a track ends when its age would reach this, so after ``keep_frames - 1`` frames
            without it.

    Returns:
        The map with numbers of tracks, of the dtype of ``panoptic_map``; the state after this
        frame; and the instances of this frame under their labels in ``panoptic_map``.

    Raises:
        ValueError: if a new track would need the number ``label_divisor``, or for other shapes.
    """
    if frame_offsets.shape != (2, *panoptic_map.shape):
        raise ValueError(
            f"frame_offsets must be {(2, *panoptic_map.shape)}, got {tuple(frame_offsets.shape)}"
        )
    runs = find_runs(panoptic_map)
    instances = find_instances(find_segments(runs), label_divisor)
    y, x = instances.centers.unbind(dim=1)
    previous = instances.centers.float() + frame_offsets[:, y, x].float().T
    labels = instances.labels.cpu().numpy()
    numbered, taken, next_number = _assign(
        labels, previous.cpu().numpy(), state, label_divisor=label_divisor
    )
    boxes = instances.boxes.cpu().numpy()
    seen = TrackState(
        labels=numbered,
        centers=instances.centers.cpu().numpy(),
        reaches=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        ages=np.ones(len(labels), np.int64),
        next_number=next_number,
    )
    kept = ~taken & (state.ages + 1 < keep_frames)
    parts = zip(seen[:4], (*state[:3], state.ages + 1))
    columns = [np.concatenate([new, old[kept]]) for new, old in parts]
    after = TrackState(*columns, next_number)
    order = np.argsort(labels)
    values = relabel(runs.labels[:, 0], labels[order], numbered[order]).to(panoptic_map.dtype)
    return runs.fill(values), after, instances


def find_instances(segments: Segments, label_divisor: int) -> Segments:
    """Those of the segments that are instances: neither void, stuff nor a crowd."""
    is_instance = (segments.labels >= 0) & (segments.labels % label_divisor > 0)
    return Segments(*(values[is_instance] for values in segments))


def _assign(
    labels: np.ndarray, previous: np.ndarray, state: TrackState, *, label_divisor: int
) -> Tuple[np.ndarray, np.ndarray, int]:
    """Labels by track, which tracks are taken, and the next number."""
    numbered, next_number = labels.copy(), state.next_number
    is_taken = np.zeros(len(state.labels), bool)
    difference = previous[:, None] - state.centers[None].astype(np.float32)
    distances = np.square(difference).sum(axis=2)
    is_same_class = labels[:, None] // label_divisor == state.labels[None] // label_divisor
    distances[~is_same_class] = np.inf
    for index, label in enumerate(labels):
        free = np.where(is_taken, np.inf, distances[index])
        nearest = int(free.argmin()) if len(free) else -1
        if nearest >= 0 and free[nearest] < state.reaches[nearest]:
            numbered[index] = state.labels[nearest]
            is_taken |= state.labels == state.labels[nearest]
            continue
        if next_number >= label_divisor:
            raise ValueError(
                f"a video must have fewer than label_divisor = {label_divisor} tracks; this frame "
                "begins one more"
            )
        numbered[index] = label // label_divisor * label_divisor + next_number
        next_number += 1
    return numbered, is_taken, next_number


def relabel(values: Tensor, old: np.ndarray, new: np.ndarray) -> Tensor:
    """The values (R,), those of ``old`` (sorted) replaced by those of ``new``."""
    if len(old) == 0:
        return values
    before, after = (torch.from_numpy(a).to(values.device) for a in (old, new))
    index = torch.searchsorted(before, values).clamp(max=len(old) - 1)
    return torch.where(before[index] == values, after[index], values)


def draw_centers(centers: Tensor, size: Tuple[int, int], *, sigma: int = 8) -> Tensor:
    """
    A heatmap of centers, as Motion-DeepLab sees the frame before.

    Args:
        centers: (S, 2) integer ``(y, x)``, inside of the map.
        size: (H, W).
        sigma: of the Gaussians, in pixels; they end at ``3 * sigma + 1``.

    Returns:
        (H, W) float32, 0 to 1; where Gaussians overlap, the larger.
    """
    reach = 3 * sigma + 1
    height, width = size
    along = torch.arange(-reach, reach + 1, device=centers.device, dtype=torch.float32)
    gaussian = torch.exp(-(along[:, None] ** 2 + along[None] ** 2) / (2 * sigma**2))
    padded = torch.zeros(height + 2 * reach, width + 2 * reach, device=centers.device)
    for y, x in centers.tolist():
        window = padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        torch.maximum(window, gaussian, out=window)
    return padded[reach : reach + height, reach : reach + width].contiguous()
