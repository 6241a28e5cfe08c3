import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.segment_map import SegmentTable, build_segment_map, read_segments

_IDS = np.array([[0, 7, 7], [9, 9, 70000]], np.int32)
_SEGMENTS = [
    {"id": 70000, "category_id": 0, "iscrowd": 1},
    {"id": 7, "category_id": 2, "iscrowd": 0},
    {"id": 9, "category_id": 0},
]


def _build(ids=_IDS, segments=_SEGMENTS, num_classes=3, label_divisor=1000):
    return build_segment_map(
        ids,
        segments,
        num_classes=num_classes,
        thing_ids={0, 1},
        label_divisor=label_divisor,
        source="a.png",
    )


def test_pixels_get_the_place_of_their_segment_in_the_list_plus_one():
    segment_map, table = _build()
    assert segment_map.tolist() == [[0, 2, 2], [3, 3, 1]]
    assert table.category_ids.tolist() == [0, 2, 0]
    assert table.is_thing.tolist() == [True, False, True]
    assert table.is_crowd.tolist() == [True, False, False]
    assert table.is_instance.tolist() == [False, False, True]


def test_a_crowd_flag_on_stuff_has_no_effect():
    segments = [{**s, "iscrowd": 1} for s in _SEGMENTS]
    assert _build(segments=segments)[1].is_crowd.tolist() == [True, False, True]


def test_an_image_without_segments_is_all_void():
    segment_map, table = _build(np.zeros((2, 2), np.int32), [])
    assert segment_map.tolist() == [[0, 0], [0, 0]] and len(table) == 0


def test_indexing_equals_a_search_pixel_by_pixel():
    rng = np.random.default_rng(0)
    listed = rng.choice(256**3 - 1, 40, replace=False) + 1
    ids = rng.choice(np.append(listed, 0), (50, 61)).astype(np.int32)
    segments = [{"id": int(i), "category_id": 1} for i in listed]
    place = {0: 0, **{int(i): k + 1 for k, i in enumerate(listed)}}
    assert _build(ids, segments)[0].tolist() == [[place[i] for i in row] for row in ids.tolist()]


def test_of_a_set_of_semantic_maps_each_class_is_a_segment_of_stuff(tmp_path):
    file = str(tmp_path / "a.png")
    Image.fromarray(np.array([[2, 2, 255], [0, 2, 255]], np.uint8)).save(file)
    record = {"file_name": "a.jpg", "sem_seg_file_name": file}
    options = {"num_classes": 3, "thing_ids": set(), "label_divisor": 1000}
    segment_map, table = read_segments(record, (2, 3), **options)
    assert segment_map.tolist() == [[2, 2, 0], [1, 2, 0]] and segment_map.dtype == np.int32
    assert table.category_ids.tolist() == [0, 2] and not table.is_thing.any()
    with pytest.raises(ValueError, match=r"a.png must have the classes 0 to 1, .* got \[2\]"):
        read_segments(record, (2, 3), **{**options, "num_classes": 2})
    with pytest.raises(ValueError, match="a.png has size 2 x 3, but the image a.jpg has 4 x 4"):
        read_segments(record, (4, 4), **options)
    options["num_classes"] = 256
    segment_map, table = read_segments(record, (2, 3), **options, ignore_label=2)
    assert table.category_ids.tolist() == [0, 255] and segment_map[0].tolist() == [0, 0, 2]


def test_look_up_puts_void_first():
    table = SegmentTable(np.array([4, 5]), np.array([True, True]), np.array([False, False]))
    values = table.look_up(np.array([10, 20], np.int16), 255)
    assert values.tolist() == [255, 10, 20] and values.dtype == np.int16


@pytest.mark.parametrize(
    "change, message",
    [
        ({"segments": _SEGMENTS[:2]}, "a.png: segment 9 of the PNG is not in segments_info"),
        (
            {"segments": _SEGMENTS + [{"id": 8, "category_id": 0}]},
            "a.png: segment 8 of segments_info has no pixel in the PNG",
        ),
        ({"num_classes": 2}, "a.png: segment 7 has category 2, .* classes 0 to 1"),
        ({"segments": _SEGMENTS + _SEGMENTS[:1]}, "a.png: segment ids must be distinct"),
        ({"label_divisor": 1}, "a.png: 1 instances of class 0, .* label divisor 1 "),
    ],
)
def test_an_annotation_that_does_not_fit_its_png_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        _build(**change)


def test_a_class_may_have_one_instance_less_than_the_divisor():
    segments = [{"id": k + 1, "category_id": 0} for k in range(3)]
    ids = np.array([[1, 2, 3]], np.int32)
    assert len(_build(ids, segments, label_divisor=4)[1]) == 3
    with pytest.raises(ValueError, match="3 instances of class 0.*leaves room for 2"):
        _build(ids, segments, label_divisor=3)
