"""The merge votes, numbers and limits as DeepLab2 does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_inputs import differences

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
IMPLEMENTATIONS = [
    pytest.param(reference.merge_panoptic, id="reference"),
    pytest.param(ops.merge_panoptic, id="operator"),
]
# Classes 0 and 1 are stuff, 2 and 3 things.
OPTIONS = {"num_classes": 4, "thing_ids": [2, 3], "label_divisor": 10, "stuff_area_limit": 2}


def merge(function, semantic, instance, num_centers=3, **options):
    semantic, instance = torch.tensor([semantic]), torch.tensor([instance])
    scores = torch.full((1, num_centers), 0.5)
    return function(semantic, instance, scores, **{**OPTIONS, **options})


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_instance_takes_the_class_of_most_of_its_pixels_and_of_a_tie_the_smaller(function):
    # Center 1 has classes 3, 3, 2; center 2 has 3 and 2.
    panoptic, _ = merge(function, [[3, 3, 2, 3, 2]], [[1, 1, 1, 2, 2]])
    assert panoptic.tolist() == [[[31, 31, 31, 21, 21]]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_instances_of_a_class_are_numbered_by_their_first_pixel(function):
    # Center 3 comes first, then 1; center 2 has no pixel and takes no number.
    panoptic, _ = merge(function, [[2, 2, 3, 2]], [[3, 1, 1, 1]])
    assert panoptic.tolist() == [[[21, 22, 22, 22]]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_small_stuff_and_things_without_a_center_are_void(function):
    # Class 0 has exactly the limit of 2 pixels, class 1 one less.
    panoptic, segments = merge(function, [[0, 0, 1, 2, -1]], [[0, 0, 0, 0, 0]])
    assert panoptic.tolist() == [[[0, 0, -1, -1, -1]]]
    assert segments.area.tolist() == [[0, 0, 0, 2, 0, 0, 0]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_table_has_class_area_box_and_score_of_each_segment(function):
    panoptic, segments = merge(function, [[0, 2, 2], [0, 0, 2]], [[0, 2, 2], [0, 0, 2]])
    assert segments.panoptic_label.tolist() == [[-1, 21, -1, 0, -1, -1, -1]]
    assert segments.category.tolist() == [[-1, 2, -1, 0, -1, -1, -1]]
    assert segments.area.tolist() == [[0, 3, 0, 3, 0, 0, 0]]
    # (y_min, x_min, y_max, x_max), the last two exclusive.
    assert segments.box[0, 1].tolist() == [0, 1, 2, 3]
    assert segments.box[0, 3].tolist() == [0, 0, 2, 2]
    assert segments.objectness.tolist() == [[0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_instance_ids_on_stuff_are_ignored(function):
    panoptic, segments = merge(function, [[0, 0, 2]], [[1, 1, 0]])
    assert panoptic.tolist() == [[[0, 0, -1]]] and segments.area[0, 0] == 0


def test_values_out_of_range_are_named():
    error = RuntimeError if ops.has_extension() else ValueError
    with pytest.raises(error, match=r"semantic must be in \[-1, 3\], got 4"):
        merge(ops.merge_panoptic, [[4]], [[0]])
    with pytest.raises(error, match=r"instance must be in \[0, 3\], got 5"):
        merge(ops.merge_panoptic, [[2]], [[5]])


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [2**32, 2**32 + 1, -(2**32), 2**63 - 1])
def test_values_beyond_int32_are_named_before_they_are_narrowed(value):
    # 2**32 has the low bits of class 0, and of no center.
    with pytest.raises((RuntimeError, ValueError), match=rf"semantic must be .* got {value}"):
        merge(ops.merge_panoptic, [[value]], [[0]])
    with pytest.raises((RuntimeError, ValueError), match=rf"instance must be .* got {value}"):
        merge(ops.merge_panoptic, [[2]], [[value]])


def test_divisor_that_leaves_int32_is_refused():
    with pytest.raises(ValueError, match="label_divisor must be at least 2"):
        merge(ops.merge_panoptic, [[2]], [[0]], label_divisor=2**30)


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    num_images=st.integers(1, 3),
    height=st.integers(1, 8),
    width=st.integers(1, 60),
    num_classes=st.sampled_from([1, 2, 19, 134]),
    num_centers=st.sampled_from([1, 5, 400]),
    limit=st.sampled_from([0, 1, 30]),
    dtype=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_reference(
    num_images, height, width, num_classes, num_centers, limit, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, height, width)
    semantic = torch.randint(-1, num_classes, shape, generator=generator).to(dtype)
    instance = torch.randint(0, num_centers + 1, shape, generator=generator).to(dtype)
    scores = torch.rand(num_images, num_centers, generator=generator)
    options = {
        "num_classes": num_classes,
        "thing_ids": range(num_classes // 2, num_classes),
        # The largest that fits.
        "label_divisor": 2**31 // num_classes,
        "stuff_area_limit": limit,
    }
    ours, our_table = ops.merge_panoptic(semantic, instance, scores, **options)
    theirs, their_table = reference.merge_panoptic(semantic, instance, scores, **options)
    assert torch.equal(ours, theirs)
    assert differences(our_table, their_table) == {}


@needs_extension
def test_operator_is_registered_as_torch_expects():
    torch.library.opcheck(
        torch.ops.deeplab2_d2.merge_panoptic.default,
        (torch.randint(-1, 4, (2, 5, 6)), torch.randint(0, 4, (2, 5, 6)), torch.rand(2, 3)),
        OPTIONS,
    )
