"""Masks as runs of pixels: they may overlap, and to compare them takes no pass over pixels."""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from .segment_runs import SegmentRuns


class MaskRuns(NamedTuple):
    """
    Runs of pixels of M masks in flat maps, on the CPU.

    Attributes:
        owners: (R,) int64, the mask of each run, 0 to M - 1.
        starts: (R,) int64, index of its first pixel.
        ends: (R,) int64, index behind its last pixel.
    """

    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def areas(self, num_masks: int) -> np.ndarray:
        """(M,) int64, pixels of each mask."""
        lengths = self.ends - self.starts
        return np.bincount(self.owners, weights=lengths, minlength=num_masks).astype(np.int64)


def find_instance_masks(
    runs: SegmentRuns, label_divisor: int, labels: Optional[np.ndarray] = None
) -> Tuple[np.ndarray, MaskRuns]:
    """
    The masks of the instances of one map: neither void, stuff nor a crowd.

    Args:
        runs: of the map, in which a label is class * label_divisor + instance, negative for void.
        label_divisor: see above.
        labels: (S,) int64, ascending, of the masks that are wanted; None for those of the map.

    Returns:
        ``labels``, and the masks in their order; runs in raster order.
    """
    values, starts, lengths = (
        column.cpu().numpy() for column in (runs.labels[:, 0], runs.starts, runs.lengths)
    )
    is_instance = (values >= 0) & (values % label_divisor > 0)
    values, starts, lengths = (a[is_instance] for a in (values, starts, lengths))
    if labels is None:
        labels = np.unique(values)
    return labels, MaskRuns(np.searchsorted(labels, values), starts, starts + lengths)


def intersect_masks(masks: MaskRuns, others: MaskRuns, shape: Tuple[int, int]) -> np.ndarray:
    """
    Pixels that each of some masks shares with each of others.

    Args:
        masks: S masks of one map: they do not overlap, and their runs are in raster order.
        others: K masks that may overlap, their runs in any order.
        shape: (S, K).

    Returns:
        (S, K) int64.
    """
    first = np.searchsorted(masks.ends, others.starts, side="right")
    behind = np.searchsorted(masks.starts, others.ends, side="left")
    counts = np.maximum(behind - first, 0)
    # Each run of the others is repeated for each run of the masks that it meets.
    other = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(len(other)) - np.repeat(np.cumsum(counts) - counts, counts)
    own = first[other] + position
    common = np.minimum(masks.ends[own], others.ends[other]) - np.maximum(
        masks.starts[own], others.starts[other]
    )
    cells = masks.owners[own] * shape[1] + others.owners[other]
    total = np.bincount(cells, weights=common, minlength=shape[0] * shape[1])
    return total.astype(np.int64).reshape(shape)
