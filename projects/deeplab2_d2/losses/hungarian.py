"""The assignment of least total cost, for a batch of cost matrices."""

from typing import Callable, Optional

import numpy as np
import torch
from torch import Tensor

# Called with (N, R, C) costs and ``has_row=`` (N, R) bool or None; returns (N, R) int64 columns.
AssignmentSolver = Callable[..., Tensor]


def hungarian_matching(
    costs: Tensor,
    *,
    has_row: Optional[Tensor] = None,
    name: str = "costs",
    solver: Optional[AssignmentSolver] = None,
) -> Tensor:
    """
    Assign each row a column of its own so that the sum of the costs is least.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 7.

    Args:
        costs: (N, R, C) float, finite. No gradient passes through.
        has_row: (N, R) bool, False for padding, whose costs may be anything; None: all rows.
        name: of the tensor, for the error.
        solver: such as ``ops.linear_assignment``, which works where the costs are; None: SciPy, for
            which the whole batch is copied to the host once, and the result back.

    Returns:
        (N, R) int64 on the device of ``costs``: the column of each row, all different; -1 for
        padding and for rows without a column, of which there are R - C if R is greater than C. (A
        solver on a GPU, which cannot raise an error without waiting, may return another negative
        number for all rows of an image whose costs are not finite.)

    Raises:
        ValueError: if ``costs`` is not (N, R, C), or if a value is not finite and the costs or the
            solver are on the host.
    """
    if costs.dim() != 3:
        raise ValueError(f"{name} must be (N, R, C), got {tuple(costs.shape)}")
    costs = costs.detach()
    if solver is not None and costs.device.type != "cpu":
        return solver(costs, has_row=has_row)
    on_host, rows = costs.cpu(), None if has_row is None else has_row.cpu()
    _check_finite(on_host, rows, name)
    solver = solver or _solve_with_scipy
    return solver(on_host, has_row=rows).to(costs.device, non_blocking=True)


def _check_finite(costs: Tensor, has_row: Optional[Tensor], name: str) -> None:
    is_finite = torch.isfinite(costs).all(2)
    is_finite = is_finite if has_row is None else is_finite | ~has_row
    if not is_finite.all():
        first = int((~is_finite).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, but those of image {first} are not")


def _solve_with_scipy(costs: Tensor, *, has_row: Optional[Tensor]) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    columns = torch.full(costs.shape[:2], -1, dtype=torch.int64)
    is_row = np.ones(columns.shape, dtype=bool) if has_row is None else has_row.numpy()
    for index, matrix in enumerate(costs.double().numpy()):
        rows = np.flatnonzero(is_row[index])
        matched_rows, matched_columns = linear_sum_assignment(matrix[rows])
        columns[index, torch.from_numpy(rows[matched_rows])] = torch.from_numpy(matched_columns)
    return columns
