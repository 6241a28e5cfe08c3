import numpy as np
import pytest

from deeplab2_d2.data.mask_targets import MaskTargetGenerator, thing_id_targets
from deeplab2_d2.data.segment_map import SegmentTable

# Stuff of class 9, things of classes 4 and 3, a crowd of class 3, a thing that is not visible.
_TABLE = SegmentTable(
    np.array([9, 4, 3, 3, 8]),
    np.array([False, True, True, True, True]),
    np.array([False, False, False, True, False]),
)


def test_things_are_numbered_by_their_first_pixel():
    segment_map = np.array([[1, 1, 3], [2, 4, 3], [0, 2, 2]], np.int32)
    thing_ids, classes = thing_id_targets(segment_map, _TABLE, max_things=4)
    assert thing_ids.tolist() == [[-1, -1, 0], [1, -1, 0], [-1, 1, 1]]
    assert classes.tolist() == [3, 4, -1, -1]


def test_an_image_without_things_has_only_minus_one():
    thing_ids, classes = thing_id_targets(np.ones((2, 2), np.int32), _TABLE, max_things=2)
    assert np.all(thing_ids == -1) and np.all(classes == -1)


def test_too_many_things_are_an_error_that_names_the_image():
    with pytest.raises(ValueError, match="cats.png must show at most 1 things.*got 2"):
        thing_id_targets(np.array([[2, 3]], np.int32), _TABLE, max_things=1, source="cats.png")


def test_small_things_are_weighted_and_crowds_have_neither_label_nor_mask():
    segment_map = np.array([[1, 3, 3], [2, 4, 0]], np.int32)
    generate = MaskTargetGenerator(
        ignore_label=255,
        max_things=3,
        small_instance_area=2,
        small_instance_weight=3.0,
    )
    targets = generate(segment_map, _TABLE)
    assert targets.sem_seg.tolist() == [[9, 3, 3], [4, 255, 255]]
    # Segment 2 has one pixel; the crowd is no instance.
    assert targets.sem_seg_weights.tolist() == [[1, 1, 1], [3, 1, 1]]
    assert targets.thing_masks.tolist() == [[-1, 0, 0], [1, -1, -1]]
    assert targets.thing_classes.tolist() == [3, 4, -1]


def test_no_room_for_things_is_refused():
    with pytest.raises(ValueError, match="max_things must be positive, got 0"):
        MaskTargetGenerator(ignore_label=255, max_things=0)
