import numpy as np
import pytest

from deeplab2_d2.data.mask_targets import thing_id_targets
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


def test_too_many_things_are_an_error():
    with pytest.raises(ValueError, match="max_things is 1, but 2 things"):
        thing_id_targets(np.array([[2, 3]], np.int32), _TABLE, max_things=1)
