"""Pairs of labels of two maps, by sorting."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def label_overlap(first: Tensor, second: Tensor, *, max_pairs: int = 0) -> Tuple[Tensor, Tensor]:
    """See `deeplab2_d2.ops.label_overlap`."""
    first_labels, first_index = torch.unique(first.flatten().long(), return_inverse=True)
    second_labels, second_index = torch.unique(second.flatten().long(), return_inverse=True)
    # Ranks, unlike labels, have a product that fits.
    index = first_index * max(len(second_labels), 1) + second_index
    values, counts = torch.unique(index, return_counts=True)
    divisor = max(len(second_labels), 1)
    pairs = (first_labels[values // divisor], second_labels[values % divisor])
    rows = torch.stack(pairs, dim=1)
    if max_pairs <= 0:
        return rows, counts
    if len(rows) > max_pairs:
        return rows.new_zeros(max_pairs, 2), counts.new_full((max_pairs,), -1)
    missing = max_pairs - len(rows)
    return F.pad(rows, (0, 0, 0, missing)), F.pad(counts, (0, missing))
