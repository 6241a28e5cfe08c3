"""Operator: how many pixels each pair of labels of two maps shares."""

from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_extension, register_fake


def label_overlap(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """
    Count the pairs of labels that two maps have at the same pixels.

    Args:
        first: any shape, integer.
        second: same shape, integer.

    Returns:
        ``(pairs, counts)``: (P, 2) int64, each pair once, in lexicographic order, and (P,) int64
        pixels. How many pairs there are depends on the values: on a GPU this waits.

    Raises:
        ValueError: if the shapes differ.
    """
    check_shape("label_overlap: second", second, first.shape, str(tuple(first.shape)))
    if has_extension("label_overlap", first.device.type):
        return torch.ops.deeplab2_d2.label_overlap(first, second)
    return reference.label_overlap(first, second)


@register_fake("label_overlap")
def _fake(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    num_pairs = torch.library.get_ctx().new_dynamic_size()
    return (
        first.new_empty(num_pairs, 2, dtype=torch.int64),
        first.new_empty(num_pairs, dtype=torch.int64),
    )
