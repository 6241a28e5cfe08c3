"""Pairs of labels of two maps, by sorting."""

from typing import Tuple

import torch
from torch import Tensor


def label_overlap(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """See `deeplab2_d2.ops.label_overlap`."""
    first_labels, first_index = torch.unique(first.flatten().long(), return_inverse=True)
    second_labels, second_index = torch.unique(second.flatten().long(), return_inverse=True)
    # Ranks, unlike labels, have a product that fits.
    index = first_index * max(len(second_labels), 1) + second_index
    values, counts = torch.unique(index, return_counts=True)
    divisor = max(len(second_labels), 1)
    pairs = (first_labels[values // divisor], second_labels[values % divisor])
    return torch.stack(pairs, dim=1), counts
