"""Operator: the assignment of least total cost, for a batch of cost matrices."""

from typing import Optional

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake


def linear_assignment(
    costs: Tensor, *, has_row: Optional[Tensor] = None, has_column: Optional[Tensor] = None
) -> Tensor:
    """
    Give each row a column of its own so that the sum of the costs is least.

    Exact, by shortest augmenting paths in float64; of several best assignments it is the one of
    SciPy's ``linear_sum_assignment``. An image with more rows than columns leaves rows out. On a
    GPU nothing waits for the result, so that it can be captured in a graph.

    Args:
        costs: (N, R, C) float32 or float64, at most 1e290 in size. No gradient passes through.
        has_row: (N, R) bool, False for padding, whose costs may be anything; None: all rows.
        has_column: (N, C) bool, likewise.

    Returns:
        (N, R) int64: the column of each row; -1 for padding and for rows without one. On a GPU all
        rows of an image whose costs are not finite get -2 (an error would have to wait).

    Raises:
        ValueError: if a shape or type is not as above; without a GPU's kernel also if costs are
            not finite, with the image's index.
    """
    name = "linear_assignment"
    check_shape(f"{name}: costs", costs, ("N", "R", "C"), "(N, R, C)")
    num_images, num_rows, num_columns = costs.shape
    if costs.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: costs must be float32 or float64, got {costs.dtype}")
    for argument, exists, size in (
        ("has_row", has_row, num_rows),
        ("has_column", has_column, num_columns),
    ):
        if exists is None:
            continue
        check_shape(f"{name}: {argument}", exists, (num_images, size), f"({num_images}, {size})")
        if exists.dtype != torch.bool:
            raise ValueError(f"{name}: {argument} must be bool, got {exists.dtype}")
        if exists.device != costs.device:
            raise ValueError(
                f"{name}: {argument} must be on {costs.device} as the costs, got {exists.device}"
            )
    if has_kernels(name, costs.device.type):
        return torch.ops.deeplab2_d2.linear_assignment(costs, has_row, has_column)
    return reference.linear_assignment(costs, has_row=has_row, has_column=has_column)


@register_fake("linear_assignment")
def _fake(
    costs: Tensor, has_row: Optional[Tensor] = None, has_column: Optional[Tensor] = None
) -> Tensor:
    return costs.new_empty(costs.shape[:2], dtype=torch.int64)
