"""The target operator gives the targets of the NumPy generator."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import PanopticTargetGenerator

pytestmark = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)


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
    ours = PanopticTargetGenerator(**options, use_ops=True)(segment_map, segments)
    theirs = PanopticTargetGenerator(**options, use_ops=False)(segment_map, segments)
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
        ({"segment_map": torch.tensor([[0, 2]], dtype=torch.int32)}, r"in \[0, 1\], got 2"),
        ({"segment_map": torch.tensor([[0, 1]])}, "must be .H, W. int32"),
        ({"is_crowd": torch.tensor([False, True])}, "is_instance and is_crowd must be"),
        ({"window": torch.ones(3, 2)}, "window must be .n, n. float32"),
        ({"window_before": 9}, "window_before must be in"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(RuntimeError, match=message):
        ops.panoptic_targets(**arguments(**change))


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
