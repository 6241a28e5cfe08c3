"""Operator: how many pixels each pair of labels of two maps shares."""

from typing import Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake


def label_overlap(first: Tensor, second: Tensor, *, max_pairs: int = 0) -> Tuple[Tensor, Tensor]:
    """
    Count the pairs of labels that two maps have at the same pixels.

    Args:
        first: any shape, integer.
        second: same shape, integer.
        max_pairs: rows of the result; 0 for as many as there are pairs. That number depends on
            the values: on a GPU this waits, and is left to `torch.unique`.

    Returns:
        ``(pairs, counts)``: (P, 2) int64, each pair once, in lexicographic order, and (P,) int64
        pixels. With `max_pairs`, P is that, and rows without a pair are 0; if there are more pairs,
        every count is -1 and every pair 0.

    Raises:
        ValueError: if the shapes differ or ``max_pairs`` is negative.
    """
    if max_pairs < 0:
        raise ValueError(f"label_overlap: max_pairs must be at least 0, got {max_pairs}")
    check_shape("label_overlap: second", second, first.shape, str(tuple(first.shape)))
    can_run = max_pairs > 0 or first.device.type != "cuda"
    if can_run and has_kernels("label_overlap", first.device.type):
        return torch.ops.deeplab2_d2.label_overlap(first, second, max_pairs=max_pairs)
    return reference.label_overlap(first, second, max_pairs=max_pairs)


@register_fake("label_overlap")
def _fake(first: Tensor, second: Tensor, *, max_pairs: int = 0) -> Tuple[Tensor, Tensor]:
    num_pairs = max_pairs if max_pairs > 0 else torch.library.get_ctx().new_dynamic_size()
    return (
        first.new_empty(num_pairs, 2, dtype=torch.int64),
        first.new_empty(num_pairs, dtype=torch.int64),
    )
