"""Axial attention: the formula by hand, the kernel beside the reference, its gradients."""

import math

import pytest
import torch
from attention_inputs import TOLERANCES, arguments
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops

needs_extension = pytest.mark.skipif(
    not ops.has_extension("axial_attention"), reason="the compiled operators are not built"
)


@pytest.mark.usefixtures("both_ways")
def test_two_positions_by_hand():
    # One head, one channel each: q = (1, 2), k = (1, 0), v = (10, 20), after scale 1, shift 0.
    raw = torch.tensor([[[[1.0, 2.0]], [[1.0, 0.0]], [[10.0, 20.0]]]], dtype=torch.float64)
    # Relative positions -1, 0, 1. All scales of the terms are log 2.
    a, b, c = ([[0.0], [1.0], [2.0]], [[1.0], [0.0], [5.0]], [[3.0], [4.0], [6.0]])
    tables = [torch.tensor(values, dtype=torch.float64) for values in (a, b, c)]
    # Query 0: key 0: 1 * 1 + 1 * 1 + 1 * 0 = 2; key 1, one further: 1 * 0 + 1 * 2 + 0 * 5 = 2.
    # Query 1: key 0, one before: 2 * 1 + 2 * 0 + 1 * 1 = 3; key 1: 2 * 0 + 2 * 1 + 0 = 2.
    # So weights 1/2, 1/2 and, as 2^3 : 2^2, 2/3, 1/3.
    ones = torch.ones(3, dtype=torch.float64)
    scales = torch.full((3, 1), math.log(2), dtype=torch.float64)
    shift = torch.tensor([7.0], dtype=torch.float64)
    found = ops.axial_attention(
        *(raw, ones, 0 * ones, scales, shift, *tables),
        **{"value_depth": 1, "retrieve_content": True, "span": None},
    )
    values = [15.0, 10 * 2 / 3 + 20 / 3]
    encodings = [(4 + 6) / 2, 3 * 2 / 3 + 4 / 3]
    expected = torch.tensor([[[values], [encodings]]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.fixed_dictionaries(
        {
            "images": st.integers(1, 2),
            "others": st.sampled_from([1, 2, 11]),
            "length": st.sampled_from([1, 2, 7, 8, 9, 17, 40]),
            "heads": st.integers(1, 3),
            "depths": st.tuples(st.integers(1, 19), st.sampled_from([1, 8, 13, 16, 33, 72])),
        }
    ),
    dtype=st.sampled_from(list(TOLERANCES)),
    has_table=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    retrieve_content=st.booleans(),
    span=st.sampled_from([None, 1, 3, 15]),
)
def test_kernel_equals_the_reference_with_gradients(
    seed, sizes, dtype, has_table, retrieve_content, span
):
    tensors, value_depth = arguments(seed, dtype=dtype, **sizes)
    for place, is_there in enumerate(has_table, start=5):
        tensors[place] = tensors[place] if is_there else None
    options = {
        "value_depth": value_depth,
        "retrieve_content": retrieve_content or not has_table[2],
        "span": span,
    }

    def run(tensors):
        leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
        output = ops.axial_attention(*leaves, **options)
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        used = [leaf for leaf in leaves if leaf is not None]
        return output, torch.autograd.grad((output * weights).sum(), used)

    kept = [None if t is None else t.clone() for t in tensors]
    output, gradients = run(tensors)
    assert output.dtype == dtype
    assert all(t is None or torch.equal(t, before) for t, before in zip(tensors, kept))
    with ops.use_reference():
        exact = [None if t is None else t.double() for t in tensors]
        expected, expected_gradients = run(exact)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(output.double(), expected, **tolerance)
    for gradient, wanted in zip(gradients, expected_gradients):
        # Of weights that are rounded, and sums over all sequences.
        scale = 1 + wanted.abs().max().item()
        near = {"rtol": 10 * tolerance["rtol"], "atol": 10 * scale * tolerance["rtol"]}
        torch.testing.assert_close(gradient.double(), wanted, **near)


@needs_extension
@pytest.mark.parametrize("span", [None, 3])
def test_gradients_are_those_of_finite_differences(span):
    tensors, value_depth = arguments(0, length=4)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    options = {"value_depth": value_depth, "retrieve_content": True, "span": span}
    assert torch.autograd.gradcheck(lambda *t: ops.axial_attention(*t, **options), leaves)


@needs_extension
def test_registration():
    tensors, value_depth = arguments(0)
    options = {"value_depth": value_depth, "retrieve_content": True, "reach": 2}
    operator = torch.ops.deeplab2_d2.axial_attention.default
    torch.library.opcheck(operator, [t.requires_grad_() for t in tensors], options)
    without = [*tensors[:5], None, None, None]
    torch.library.opcheck(operator, without, options)


@needs_extension
@pytest.mark.parametrize("num_tables", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_registration_of_the_gradient(num_tables, dtype):
    tensors, value_depth = arguments(0, dtype=dtype)
    tensors[5 + num_tables :] = [None] * (3 - num_tables)
    options = {"value_depth": value_depth, "retrieve_content": True, "reach": 2}
    grad = torch.ones(1, (2 if num_tables else 1) * value_depth, 2, 5, dtype=dtype)
    operator = torch.ops.deeplab2_d2.axial_attention_backward.default
    torch.library.opcheck(
        operator, [grad, *tensors], options, test_utils=["test_schema", "test_faketensor"]
    )


@needs_extension
def test_backward_is_the_same_for_any_number_of_threads():
    tensors, value_depth = arguments(3, others=13, length=21, dtype=torch.float32)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        options = {"value_depth": value_depth, "retrieve_content": True, "span": None}
        ops.axial_attention(*leaves, **options).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other))


@needs_extension
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_gives_what_it_gives_in_pytorch(value):
    tensors, value_depth = arguments(1, dtype=torch.float32)
    tensors[0][0, 0, 1, 2] = value  # a query of the first head and second sequence
    options = {"value_depth": value_depth, "retrieve_content": True, "span": None}
    found = ops.axial_attention(*tensors, **options)
    with ops.use_reference():
        expected = ops.axial_attention(*tensors, **options)
    assert expected.isnan().any() and torch.equal(found.isnan(), expected.isnan())


@pytest.mark.parametrize(
    "place, size, message",
    [
        (1, (3,), "scale must be"),
        (3, (2, 2), "logit_scale must be"),
        (5, (8, 3), "query_encoding must be"),
        (7, (9, 3), "value_encoding must be"),
    ],
)
@needs_extension
def test_wrong_sizes_are_refused(place, size, message):
    tensors, value_depth = arguments(0)
    tensors[place] = torch.zeros(size, dtype=torch.float64)
    options = {"value_depth": value_depth, "retrieve_content": True, "span": None}
    with pytest.raises(RuntimeError, match=message):
        ops.axial_attention(*tensors, **options)
