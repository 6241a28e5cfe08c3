"""Specification of the assignment of least total cost: SciPy's."""

from typing import Optional

import numpy as np
import torch
from torch import Tensor

# Sums of larger costs may overflow.
_LARGEST_COST = 1e290


def linear_assignment(
    costs: Tensor, *, has_row: Optional[Tensor] = None, has_column: Optional[Tensor] = None
) -> Tensor:
    """See :func:`deeplab2_d2.ops.linear_assignment`. Copies the batch to the host and back."""
    from scipy.optimize import linear_sum_assignment

    matrices = costs.detach().double().cpu().numpy()
    row_flags = _flags(has_row, costs.shape[:2])
    column_flags = _flags(has_column, (costs.shape[0], costs.shape[2]))
    assigned = torch.full(costs.shape[:2], -1, dtype=torch.int64)
    for image, matrix in enumerate(matrices):
        rows, columns = np.flatnonzero(row_flags[image]), np.flatnonzero(column_flags[image])
        existing = matrix[np.ix_(rows, columns)]
        if not (np.abs(existing) <= _LARGEST_COST).all():
            raise ValueError(
                f"linear_assignment: costs must be finite, at most {_LARGEST_COST} in size, but "
                f"those of image {image} are not"
            )
        matched_rows, matched_columns = linear_sum_assignment(existing)
        assigned[image, torch.from_numpy(rows[matched_rows])] = torch.from_numpy(
            columns[matched_columns]
        )
    return assigned.to(costs.device, non_blocking=True)


def _flags(exists: Optional[Tensor], shape: "tuple[int, ...]") -> np.ndarray:
    return np.ones(shape, dtype=bool) if exists is None else exists.cpu().numpy()
