"""Assignments are of least total cost, and those of SciPy where several are."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_schedules import SCHEDULES
from scipy.optimize import linear_sum_assignment

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension("linear_assignment"), reason="the compiled operators are not built"
)
FUNCTIONS = [ops.linear_assignment, reference.linear_assignment]


def make_costs(num_images, num_rows, num_columns, num_values, dtype=torch.float32, seed=0):
    """Few values give many ties; sevenths are not exact, so that the order of sums shows."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, num_rows, num_columns)
    costs = torch.randint(-num_values, num_values, shape, generator=generator).to(dtype) / 7
    has_row = torch.rand(num_images, num_rows, generator=generator) < 0.8
    has_column = torch.rand(num_images, num_columns, generator=generator) < 0.8
    return costs, has_row, has_column


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_greedy_choice_may_be_wrong(function):
    # Row 0 would take column 0 for nothing; then row 1 pays 5: 5 against 1 + 0.
    assert function(torch.tensor([[[0.0, 1.0], [0.0, 5.0]]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_least_of_all_assignments_of_small_matrices(function):
    for seed, (num_rows, num_columns) in enumerate(itertools.product(range(1, 6), repeat=2)):
        costs, _, _ = make_costs(1, num_rows, num_columns, 50, torch.float64, seed)
        matrix = costs[0] if num_rows <= num_columns else costs[0].T
        choices = itertools.permutations(range(len(matrix[0])), len(matrix))
        least = min(sum(matrix[r, c].item() for r, c in enumerate(choice)) for choice in choices)
        columns = function(costs)[0]
        total = sum(costs[0, r, c].item() for r, c in enumerate(columns.tolist()) if c >= 0)
        assert total == pytest.approx(least)
        assert (columns >= 0).sum() == min(num_rows, num_columns)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_and_columns_of_padding_take_no_part(function):
    nothing = float("nan")
    costs = torch.tensor([[[9.0, 1.0, nothing], [nothing] * 3, [9.0, 0.0, nothing]]])
    has_row, has_column = torch.tensor([[True, False, True]]), torch.tensor([[True, True, False]])
    columns = function(costs, has_row=has_row, has_column=has_column)
    # 9 + 0 for rows 0 and 2 against 1 + 9.
    assert columns.tolist() == [[0, -1, 1]]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_empty_batches_and_matrices(function, shape):
    columns = function(torch.zeros(shape))
    assert columns.dtype == torch.int64
    assert columns.tolist() == [[-1] * shape[1]] * shape[0]


@needs_extension
@settings(max_examples=200)
@given(
    num_images=st.integers(0, 3),
    num_rows=st.integers(0, 40),
    num_columns=st.integers(0, 40),
    num_values=st.sampled_from([1, 2, 5, 10**6]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    has_padding=st.booleans(),
    is_transposed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_scipy_ties_included(
    num_images, num_rows, num_columns, num_values, dtype, has_padding, is_transposed, seed
):
    size = (num_images, num_rows, num_columns)
    costs, has_row, has_column = make_costs(*size, num_values, dtype, seed)
    if is_transposed:  # not contiguous
        costs, has_row, has_column = costs.transpose(1, 2), has_column, has_row
    flags = {"has_row": has_row, "has_column": has_column} if has_padding else {}
    before = costs.clone()
    columns = ops.linear_assignment(costs, **flags)
    assert torch.equal(columns, reference.linear_assignment(costs, **flags))
    assert torch.equal(costs, before)


@needs_extension
def test_total_of_large_matrices_is_that_of_scipy():
    costs = torch.rand(3, 128, 181, dtype=torch.float64) ** 8
    for matrix, columns in zip(costs.numpy(), ops.linear_assignment(costs).numpy()):
        rows, expected = linear_sum_assignment(matrix)
        assert matrix[np.arange(128), columns].sum() == matrix[rows, expected].sum()
        # No two totals of random costs are equal: the best assignment is unique.
        assert columns.tolist() == expected.tolist()


@needs_extension
def test_result_does_not_depend_on_the_number_of_threads():
    costs, has_row, _ = make_costs(7, 60, 40, 5)
    before = torch.get_num_threads()
    results = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        results.append(ops.linear_assignment(costs, has_row=has_row))
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_costs_that_are_not_finite_are_refused(function, value):
    costs = torch.zeros(3, 2, 2, dtype=torch.float64)
    costs[1, 0, 1] = value
    with pytest.raises(ValueError, match="costs must be finite.* image 1 are not"):
        function(costs)


@pytest.mark.parametrize(
    "costs, flags, message",
    [
        (torch.zeros(2, 2), {}, r"costs must be \(N, R, C\), got \(2, 2\)"),
        (torch.zeros(1, 2, 2, dtype=torch.float16), {}, "float32 or float64, got torch.float16"),
        (torch.zeros(1, 2, 3), {"has_row": torch.ones(1, 3, dtype=torch.bool)}, r"has_row must be"),
        (torch.zeros(1, 2, 3), {"has_column": torch.ones(1, 3)}, "has_column must be bool"),
        (
            torch.zeros(1, 2, 3),
            {"has_row": torch.ones(1, 2, dtype=torch.bool, device="meta")},
            "has_row must be on cpu",
        ),
    ],
)
def test_wrong_arguments_are_named(costs, flags, message):
    with pytest.raises(ValueError, match=message):
        ops.linear_assignment(costs, **flags)


@needs_extension
def test_operator_checks_what_reaches_it_directly():
    operator = torch.ops.deeplab2_d2.linear_assignment
    with pytest.raises(ValueError, match="costs must be float32 or float64"):
        operator(torch.zeros(1, 2, 2, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"has_row must be \(1, 2\)"):
        operator(torch.zeros(1, 2, 2), torch.ones(1, 3, dtype=torch.bool))


@needs_extension
def test_operator_is_registered_as_torch_expects():
    costs, has_row, has_column = make_costs(2, 4, 5, 5)
    operator = torch.ops.deeplab2_d2.linear_assignment.default
    torch.library.opcheck(operator, (costs,))
    torch.library.opcheck(operator, (costs, has_row, has_column))


class _Match(torch.nn.Module):
    def forward(self, costs, has_row):
        return ops.linear_assignment(-costs, has_row=has_row) + 1


@needs_extension
def test_compiled_and_exported_programs_call_the_operator():
    costs, has_row, _ = make_costs(2, 4, 5, 5)
    expected = _Match()(costs, has_row)
    compiled = torch.compile(_Match(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(costs, has_row), expected)
    sizes = {0: torch.export.Dim("images"), 1: torch.export.Dim("rows")}
    program = torch.export.export(
        _Match(),
        (costs, has_row),
        dynamic_shapes=({**sizes, 2: torch.export.Dim("columns")}, sizes),
    )
    assert torch.equal(program.module()(costs, has_row), expected)
    costs, has_row, _ = make_costs(3, 7, 6, 5, seed=1)
    assert torch.equal(program.module()(costs, has_row), _Match()(costs, has_row))


@pytest.mark.parametrize(
    "size, num_values, dtype",
    [
        ((2, 5, 5), 2, torch.float32),
        ((3, 9, 30), 3, torch.float64),
        ((2, 40, 33), 10**6, torch.float32),
        ((2, 3, 200), 1, torch.float32),
        # More state than shared memory holds.
        ((1, 6, 1100), 4, torch.float32),
    ],
)
@pytest.mark.parametrize("has_padding", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cuda_kernel_equals_scipy_ties_included(
    size, num_values, dtype, has_padding, schedule, kernel_device, monkeypatch
):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
    costs, has_row, has_column = make_costs(*size, num_values, dtype)
    flags = {"has_row": has_row, "has_column": has_column} if has_padding else {}
    on_device = {name: flag.to(kernel_device) for name, flag in flags.items()}
    columns = ops.linear_assignment(costs.to(kernel_device), **on_device)
    assert torch.equal(columns.cpu(), reference.linear_assignment(costs, **flags))


def test_cuda_kernel_marks_images_whose_costs_are_not_finite(kernel_device):
    costs, has_row, _ = make_costs(4, 3, 4, 5)
    costs[1, 0, 1], costs[2, 2, 0] = float("nan"), float("inf")
    has_row[:] = True
    has_row[2, 2] = False
    columns = ops.linear_assignment(costs.to(kernel_device), has_row=has_row.to(kernel_device))
    assert columns[1].tolist() == [-2, -2, -2]
    costs[1], costs[2, 2, 0] = 0.0, 0.0
    expected = reference.linear_assignment(costs, has_row=has_row)
    others = [0, 2, 3]
    assert torch.equal(columns.cpu()[others], expected[others])


@pytest.mark.gpu
def test_cuda_kernel_is_captured_in_a_graph():
    costs, has_row, _ = make_costs(8, 20, 30, 5)
    device_costs, device_rows = costs.cuda(), has_row.cuda()
    ops.linear_assignment(device_costs, has_row=device_rows)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        columns = ops.linear_assignment(device_costs, has_row=device_rows)
    for seed in (1, 2):
        costs, has_row, _ = make_costs(8, 20, 30, 5, seed=seed)
        device_costs.copy_(costs)
        device_rows.copy_(has_row)
        graph.replay()
        assert torch.equal(columns.cpu(), reference.linear_assignment(costs, has_row=has_row))
