"""Pairs of labels are counted alike by the reference and by the kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)


@pytest.mark.parametrize("function", [reference.label_overlap, ops.label_overlap])
def test_pairs_are_sorted_and_counted(function):
    pairs, counts = function(torch.tensor([[2, 2, -1]]), torch.tensor([[7, 7, 7]]))
    assert pairs.tolist() == [[-1, 7], [2, 7]] and counts.tolist() == [1, 2]


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(0, 9),
    width=st.integers(0, 90),
    num_labels=st.sampled_from([1, 3, 1000]),
    factor=st.sampled_from([1, 1000, 2**20]),
    dtypes=st.tuples(*[st.sampled_from([torch.int32, torch.int64])] * 2),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_reference(height, width, num_labels, factor, dtypes, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        (torch.randint(-1, num_labels, (width, height), generator=generator) * factor).to(dtype).T
        for dtype in dtypes
    )
    for ours, theirs in zip(
        ops.label_overlap(first, second), reference.label_overlap(first, second)
    ):
        assert torch.equal(ours, theirs)


def test_shapes_must_be_equal():
    with pytest.raises(ValueError, match=r"second must be \(2, 3\), got \(3, 2\)"):
        ops.label_overlap(
            torch.zeros(2, 3, dtype=torch.int32), torch.zeros(3, 2, dtype=torch.int32)
        )


@needs_extension
def test_floats_are_refused():
    with pytest.raises(RuntimeError, match="first and second must be integers"):
        ops.label_overlap(torch.zeros(2, 3), torch.zeros(2, 3))
