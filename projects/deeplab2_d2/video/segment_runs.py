"""A map of labels as runs of equal pixels, of which there are far fewer than pixels."""

from typing import NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor


class SegmentRuns(NamedTuple):
    """
    Runs of equal pixels in the rows of maps, in raster order.

    Attributes:
        labels: (R, M) int64, of each of the M maps.
        starts: (R,) int64, index of a run's first pixel.
        lengths: (R,) int64, in pixels.
        size: (height, width) of the maps.
    """

    labels: Tensor
    starts: Tensor
    lengths: Tensor
    size: Tuple[int, int]

    def fill(self, values: Tensor) -> Tensor:
        """(height, width): a value (R,) for each run, at its pixels."""
        if values.device.type == "cpu":
            # A quarter of the time of PyTorch, which first makes an index of every pixel.
            filled = torch.from_numpy(np.repeat(values.numpy(), self.lengths.numpy()))
        else:
            filled = values.repeat_interleave(self.lengths)
        return filled.view(self.size)


def find_runs(*maps: Tensor) -> SegmentRuns:
    """
    The runs in which no map changes.

    Args:
        maps: (H, W) integer labels, one or more of one size.

    Raises:
        ValueError: if the maps are no maps of one size.
    """
    first = maps[0]
    if first.dim() != 2 or any(m.shape != first.shape for m in maps):
        raise ValueError(f"maps must be (H, W) of one size, got {[tuple(m.shape) for m in maps]}")
    height, width = first.shape
    flat = [labels.reshape(-1) for labels in maps]
    if first.device.type == "cpu":
        starts = torch.from_numpy(_find_starts([labels.numpy() for labels in flat], width))
    else:
        starts = _find_starts_on_gpu(flat, width)
    lengths = torch.diff(starts, append=starts.new_tensor([first.numel()]))
    values = [labels[starts].long() for labels in flat]
    return SegmentRuns(torch.stack(values, dim=1), starts, lengths, (height, width))


def _find_starts(maps: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Where runs begin in flat maps; NumPy takes a quarter of PyTorch's time."""
    is_start = np.empty(len(maps[0]), bool)
    np.not_equal(maps[0][1:], maps[0][:-1], out=is_start[1:])
    for labels in maps[1:]:
        is_start[1:] |= labels[1:] != labels[:-1]
    is_start[::width] = True
    return np.flatnonzero(is_start)


def _find_starts_on_gpu(maps: Sequence[Tensor], width: int) -> Tensor:
    """The same where the maps are."""
    is_start = torch.zeros(len(maps[0]), dtype=torch.bool, device=maps[0].device)
    for labels in maps:
        is_start[1:] |= labels[1:] != labels[:-1]
    is_start[::width] = True
    return is_start.nonzero()[:, 0]


class Segments(NamedTuple):
    """
    The segments of a map, in the order of their first pixels.

    Attributes:
        labels: (S,) int64.
        areas: (S,) int64, in pixels.
        centers: (S, 2) int64 ``(y, x)``, the mean of the pixels, rounded to even.
        boxes: (S, 4) int64 ``(y0, x0, y1, x1)``, first and last pixels.
    """

    labels: Tensor
    areas: Tensor
    centers: Tensor
    boxes: Tensor


def find_segments(runs: SegmentRuns) -> Segments:
    """What the segments of one map measure."""
    labels, index = torch.unique(runs.labels[:, 0], return_inverse=True)
    y, x = runs.starts // runs.size[1], runs.starts % runs.size[1]
    last_x = x + runs.lengths - 1

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(labels)).index_add_(0, index, values)

    def extreme(values: Tensor, how: str) -> Tensor:
        return values.new_zeros(len(labels)).scatter_reduce_(
            0, index, values, how, include_self=False
        )

    areas = total(runs.lengths)
    # Twice the sum of the pixels' x is a whole number.
    sums = torch.stack([2 * total(y * runs.lengths), total((x + last_x) * runs.lengths)], dim=1)
    centers = (sums.double() / (2 * areas[:, None])).round().long()
    boxes = torch.stack(
        [extreme(y, "amin"), extreme(x, "amin"), extreme(y, "amax"), extreme(last_x, "amax")], dim=1
    )
    order = extreme(runs.starts, "amin").argsort()
    return Segments(labels[order], areas[order], centers[order], boxes[order])
