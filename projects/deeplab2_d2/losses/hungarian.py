"""The assignment of least total cost, for a batch of cost matrices."""

import torch
from torch import Tensor


def hungarian_matching(costs: Tensor, *, name: str = "costs") -> Tensor:
    """
    Assign each row a column of its own so that the sum of the costs is least.

    Reference: MaX-DeepLab (arXiv:2012.00759), Eq. 7. The whole batch is copied to the host once,
    solved there by SciPy, and the result copied back.

    Args:
        costs: (N, R, C) float, finite. No gradient passes through.
        name: of the tensor, for the error.

    Returns:
        (N, R) int64 on the device of ``costs``: the column of each row, all different; -1 for rows
        without a column, of which there are R - C if R is greater than C.

    Raises:
        ValueError: if ``costs`` is not (N, R, C) or has a value that is not finite.
    """
    from scipy.optimize import linear_sum_assignment

    if costs.dim() != 3:
        raise ValueError(f"{name} must be (N, R, C), got {tuple(costs.shape)}")
    matrices = costs.detach().double().cpu()
    if not torch.isfinite(matrices).all():
        first = int((~torch.isfinite(matrices)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, but those of image {first} are not")
    columns = torch.full(costs.shape[:2], -1, dtype=torch.int64)
    for index, matrix in enumerate(matrices.numpy()):
        rows, matched = linear_sum_assignment(matrix)
        columns[index, torch.from_numpy(rows)] = torch.from_numpy(matched)
    return columns.to(costs.device, non_blocking=True)
