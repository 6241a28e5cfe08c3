"""Pixels go to the nearest center, by the reference and by the kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
IMPLEMENTATIONS = [
    pytest.param(reference.group_pixels, id="reference"),
    pytest.param(ops.group_pixels, id="operator"),
]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_zero_offsets_split_a_row_halfway_between_two_centers(function):
    # Centers at x=0 and x=4 on one row of five pixels. x=2 is equidistant: ties go to the first.
    centers = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    ids = function(centers, torch.tensor([2], dtype=torch.int32), torch.zeros(1, 2, 1, 5))
    assert ids.tolist() == [[[1, 1, 1, 2, 2]]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_offsets_are_row_first(function):
    # The pixel points one row down, to the center at (1, 0), not to the one at (0, 1).
    centers = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    offsets = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert function(centers, torch.tensor([2], dtype=torch.int32), offsets).item() == 2


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_rows_beyond_the_count_are_no_centers(function):
    centers = torch.zeros(2, 3, 2)
    counts = torch.tensor([0, 1], dtype=torch.int32)
    ids = function(centers, counts, torch.zeros(2, 2, 2, 2))
    assert ids[0].eq(0).all() and ids[1].eq(1).all()


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 200),
    num_rows=st.sampled_from([1, 2, 40, 400]),
    spread=st.sampled_from([0.0, 3.0, 1000.0]),
    is_whole=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_reference(height, width, num_rows, spread, is_whole, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([float(height), float(width)])
    centers = torch.rand(2, num_rows, 2, generator=generator) * extent
    offsets = torch.randn(2, 2, height, width, generator=generator) * spread
    if is_whole:
        # Whole numbers make ties.
        centers, offsets = centers.round(), offsets.round()
    offsets = offsets.to(dtype).transpose(2, 3).contiguous().transpose(2, 3)
    counts = torch.randint(num_rows + 1, (2,), generator=generator, dtype=torch.int32)
    ours = ops.group_pixels(centers, counts, offsets)
    assert torch.equal(ours, reference.group_pixels(centers, counts, offsets))


@needs_extension
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_offsets_that_are_not_numbers_are_harmless(value):
    offsets = torch.zeros(1, 2, 3, 70)
    offsets[0, 0, 1, 5] = value
    centers = torch.rand(1, 9, 2) * 60
    counts = torch.tensor([9], dtype=torch.int32)
    ours = ops.group_pixels(centers, counts, offsets)
    assert torch.equal(ours, reference.group_pixels(centers, counts, offsets))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"centers must be \(1, K, 2\), got \(1, 2\)"):
        ops.group_pixels(
            torch.zeros(1, 2), torch.zeros(1, dtype=torch.int32), torch.zeros(1, 2, 3, 3)
        )


@needs_extension
def test_operator_is_registered_as_torch_expects():
    torch.library.opcheck(
        torch.ops.deeplab2_d2.group_pixels.default,
        (torch.rand(2, 5, 2), torch.tensor([5, 3], dtype=torch.int32), torch.rand(2, 2, 4, 6)),
    )
