"""The target operator gives the targets of the NumPy generator."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import PanopticTargetGenerator

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 60),
    num_segments=st.integers(0, 12),
    sigma=st.sampled_from([0.5, 2.0, 8.0]),
    small_instance_area=st.sampled_from([0, 30, 4096]),
    ignore_crowd=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_operator_equals_numpy(
    height, width, num_segments, sigma, small_instance_area, ignore_crowd, seed
):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_segments + 1, (-(-height // 5), -(-width // 5)))
    segment_map = np.kron(coarse, np.ones((5, 5), int))[:height, :width].astype(np.int32)
    segments = SegmentTable(
        category_ids=rng.integers(0, 9, num_segments),
        is_thing=rng.random(num_segments) < 0.7,
        is_crowd=rng.random(num_segments) < 0.2,
    )
    options = {
        "ignore_label": 255,
        "sigma": sigma,
        "small_instance_area": small_instance_area,
        "ignore_crowd_in_semantic": ignore_crowd,
    }
    generator = PanopticTargetGenerator(**options)
    ours = generator(segment_map, segments)
    with ops.use_reference():
        theirs = generator(segment_map, segments)
    for name, expected in vars(theirs).items():
        result = getattr(ours, name)
        assert result.dtype == expected.dtype, name
        np.testing.assert_array_equal(result, expected, err_msg=name)


def arguments(**change):
    return {
        "segment_map": torch.tensor([[0, 1]], dtype=torch.int32),
        "semantic": torch.tensor([3]),
        "is_instance": torch.tensor([True]),
        "is_crowd": torch.tensor([False]),
        "window": torch.ones(3, 3),
        "window_before": 1,
        "ignore_label": 255,
        "small_instance_area": 4,
        "small_instance_weight": 3.0,
        **change,
    }


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"segment_map": torch.tensor([[0, 1]])},
            "segment_map must be .H, W. int32, got torch.int64",
        ),
        ({"is_crowd": torch.tensor([False, True])}, r"is_crowd must be \(1,\) bool, got \(2,\)"),
        ({"window": torch.ones(3, 2)}, r"window must be .n, n. float32, got \(3, 2\)"),
        ({"window_before": 9}, r"window_before must be in \[0, 3\], got 9"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ops.panoptic_targets(**arguments(**change))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("label", [-1, 2])
def test_label_without_a_segment_is_named(label):
    segment_map = torch.tensor([[0, label]], dtype=torch.int32)
    with pytest.raises((ValueError, RuntimeError), match=rf"in \[0, 1\], got {label}"):
        ops.panoptic_targets(**arguments(segment_map=segment_map))


@needs_extension
def test_operator_is_registered_as_torch_expects():
    *tensors, before, ignore, area, weight = arguments().values()
    torch.library.opcheck(
        torch.ops.deeplab2_d2.panoptic_targets.default,
        tuple(tensors),
        {
            "window_before": before, "ignore_label": ignore, "small_instance_area": area,
            "small_instance_weight": weight,
        },
    )  # fmt: skip
