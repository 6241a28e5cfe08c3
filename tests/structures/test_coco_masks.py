"""Masks of annotations, held against what pycocotools itself writes and reads."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from deeplab2_d2.structures import check_instance_masks, mask_fault

SIZE = (4, 6)
WHOLE = {"size": [4, 6], "counts": [0, 24]}


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 1000),
)
def test_every_mask_that_pycocotools_writes_is_right(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert mask_fault(rle, (height, width)) is None
    text = {**rle, "counts": rle["counts"].decode()}
    assert mask_fault(text, (height, width)) is None
    assert mask_fault(rle, (height, width + 1)) is not None


@settings(max_examples=300, deadline=None)
@given(code=st.binary(max_size=12), is_near=st.booleans(), flip=st.integers(0, 200))
def test_a_code_that_is_found_right_decodes_to_what_its_runs_say(code, is_near, flip):
    if is_near:  # One character of a right one is another.
        mask = np.indices(SIZE).sum(axis=0) % 3 == 0
        code = bytearray(mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])
        code[flip % len(code)] ^= 1 << flip % 7
    rle = {"size": list(SIZE), "counts": bytes(code)}
    if mask_fault(rle, SIZE) is None:
        mask = mask_util.decode(rle)
        assert mask.shape == SIZE and set(np.unique(mask)) <= {0, 1}
        assert mask_util.area(rle) == mask.sum()


@pytest.mark.parametrize(
    "counts",
    [
        [3, 5],  # pycocotools leaves the other 16 pixels as the memory was
        [3, 500],
        [-3, 27],
        [2**32 - 1, 25],
        [3.0, 21.0],
        "é",
        "3",
        b"PPYo",  # a character is to follow
        b"oooooooooooo",
        None,
    ],
    ids=repr,
)
def test_run_lengths_that_do_not_fill_the_mask_are_told(counts):
    assert "run lengths" in mask_fault({"size": [4, 6], "counts": counts}, SIZE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, -1e9, 13, -7, 10**400])
def test_a_coordinate_far_away_is_told_with_its_value(value):
    fault = mask_fault([[0, 0, 5, 0, 5, value]], SIZE)
    assert "must be from -6 to 12 in an image of 4 x 6" in fault or "list of numbers" in fault


@pytest.mark.parametrize("polygon", [["1", "2"] * 3, [None] * 6, [[1, 2]], 5, {}, [True] * 6])
def test_what_is_no_list_of_numbers_is_told(polygon):
    assert "must be a list of numbers" in mask_fault([polygon], SIZE)


def test_an_outline_that_goes_to_and_fro_without_end_is_told():
    # Two thousand times 5 steps to the right, and back.
    assert "at most 10024 steps, got 20000" in mask_fault([[0, 0, 5, 0] * 2000], SIZE)


@pytest.mark.parametrize("segmentation", ["mask.png", None, 5])
def test_other_types_are_told(segmentation):
    assert "must be polygons, RLE or an array" in mask_fault(segmentation, SIZE)


@pytest.mark.parametrize("size", [(0, 6), (None, 6), ("4", 6), (4.0, 6.0)])
def test_a_size_that_is_none_is_told(size):
    assert "must have a height and a width" in mask_fault(WHOLE, size)
    assert mask_fault({**WHOLE, "size": size}, SIZE) is not None


@pytest.mark.parametrize("segmentation", [[], [[]], [[1, 1, 2, 2]]])
def test_polygons_of_two_points_are_left_to_callers_that_leave_them_out(segmentation):
    assert mask_fault(segmentation, SIZE) is None
    assert "three points" in mask_fault(segmentation, SIZE, allows_short_polygons=False)


def test_the_first_annotation_that_cannot_be_evaluated_is_named():
    content = {
        "images": [{"id": 3, "height": 4, "width": 6}],
        "annotations": [
            {"id": 7, "image_id": 8, "segmentation": None},  # of no image: not evaluated
            {"id": 8, "image_id": 3, "segmentation": WHOLE},
            {"id": 9, "image_id": 3, "segmentation": [[0, 0, 5, 0, 5, math.nan]]},
        ],
    }
    with pytest.raises(ValueError, match="x.json: annotation 9 of image_id 3: coordinates must"):
        check_instance_masks(content, "x.json")
    del content["annotations"][2]
    check_instance_masks(content, "x.json")
