import contextlib
import itertools

import pytest
import torch

from deeplab2_d2 import ops
from deeplab2_d2.losses import hungarian_matching


@pytest.fixture(params=["reference", "operator"])
def solver(request):
    """SciPy, which is the reference, and the operator where it is built."""
    with ops.use_reference() if request.param == "reference" else contextlib.nullcontext():
        yield


def _least_total(costs):
    """By trying every assignment; a row without a column costs nothing."""
    num_rows, num_columns = costs.shape
    if num_rows > num_columns:
        return _least_total(costs.T)
    choices = itertools.permutations(range(num_columns), num_rows)
    return min(sum(costs[row, column] for row, column in enumerate(c)) for c in choices)


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 6), (2, 6, 3), (1, 1, 4), (1, 4, 1)])
def test_total_cost_is_least_for_each_image(shape, solver):
    torch.manual_seed(1)
    costs = torch.randn(shape, dtype=torch.float64)
    columns = hungarian_matching(costs)
    assert columns.shape == shape[:2]
    for matrix, row_columns in zip(costs, columns):
        rows = [row for row, column in enumerate(row_columns.tolist()) if column >= 0]
        chosen = row_columns[rows].tolist()
        assert len(set(chosen)) == len(chosen) == min(shape[1:])
        total = sum(matrix[row, column].item() for row, column in zip(rows, chosen))
        assert total == pytest.approx(_least_total(matrix.numpy()))


def test_worked_example_where_the_greedy_choice_is_wrong(solver):
    costs = torch.tensor([[[0.0, 1.0], [0.0, 5.0]]])
    assert hungarian_matching(costs).tolist() == [[1, 0]]


def test_empty_batches_and_matrices_have_empty_assignments(solver):
    assert hungarian_matching(torch.zeros(0, 2, 3)).shape == (0, 2)
    assert hungarian_matching(torch.zeros(2, 0, 3)).shape == (2, 0)
    assert hungarian_matching(torch.zeros(1, 2, 0)).tolist() == [[-1, -1]]


def test_rows_of_padding_have_no_column(solver):
    costs = torch.tensor([[[0.0, 1.0], [float("nan"), 0.0], [5.0, 0.0]]])
    has_row = torch.tensor([[True, False, True]])
    columns = hungarian_matching(costs, has_row=has_row)
    assert columns.tolist() == [[0, -1, 1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_refused_by_name(value, solver):
    costs = torch.zeros(3, 2, 2)
    costs[1, 0, 0] = value
    with pytest.raises(ValueError, match="matching costs must be finite, but those of image 1"):
        hungarian_matching(costs, name="matching costs")


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"costs must be \(N, R, C\)"):
        hungarian_matching(torch.zeros(2, 2))
