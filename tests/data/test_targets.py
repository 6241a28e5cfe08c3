import numpy as np
import pytest

from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import (
    PanopticTargetGenerator,
    draw_center_heatmap,
    gaussian_window,
)
from deeplab2_d2.ops.reference.targets import segment_centers


def _table(*rows):
    """Rows of (class, is_thing, is_crowd)."""
    classes, things, crowds = (np.array(column) for column in zip(*rows))
    return SegmentTable(classes, things.astype(bool), crowds.astype(bool))


# Segment 1: stuff of class 5. Segment 2: a thing of class 3. Segment 3: a crowd of class 3.
_TABLE = _table((5, 0, 0), (3, 1, 0), (3, 1, 1))
_MAP = np.array(
    [
        [1, 1, 1, 3, 3],
        [1, 2, 2, 2, 3],
        [1, 2, 2, 2, 0],
        [1, 2, 2, 2, 0],
    ],
    np.int32,
)


def _targets(segment_map=_MAP, table=_TABLE, **arguments):
    return PanopticTargetGenerator(ignore_label=255, **arguments)(segment_map, table)


def test_classes_with_crowds_ignored_or_kept():
    # fmt: off
    ignored = [[5, 5, 5, 255, 255], [5, 3, 3, 3, 255], [5, 3, 3, 3, 255], [5, 3, 3, 3, 255]]
    kept = [[5, 5, 5, 3, 3], [5, 3, 3, 3, 3], [5, 3, 3, 3, 255], [5, 3, 3, 3, 255]]
    # fmt: on
    assert _targets().sem_seg.tolist() == ignored
    assert _targets(ignore_crowd_in_semantic=False).sem_seg.tolist() == kept
    assert _targets().sem_seg.dtype == np.int64


def test_offsets_lead_from_each_pixel_of_a_thing_to_its_center():
    # The thing is 3 x 3 around (2, 2).
    offsets = _targets().center_offsets
    assert offsets[0].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
        [0, -1, -1, -1, 0],
    ]
    assert offsets[1, 1:, 1:4].tolist() == [[1, 0, -1]] * 3
    assert np.all(offsets[1, 0] == 0)


def test_weights_leave_out_crowd_void_and_in_the_offsets_stuff():
    targets = _targets()
    assert targets.center_weights.tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
    ]
    assert np.array_equal(targets.offset_weights, _MAP == 2)


def test_only_instances_below_the_area_weigh_more_and_fractions_survive():
    # Nine pixels are not below 9. Stuff (6 pixels) and crowds (3) are no instances.
    assert np.all(_targets(small_instance_area=9).sem_seg_weights == 1)
    weights = _targets(small_instance_area=10, small_instance_weight=2.5).sem_seg_weights
    assert np.array_equal(weights, np.where(_MAP == 2, np.float32(2.5), np.float32(1)))


def test_a_center_halfway_between_pixels_is_rounded_to_the_even_one():
    # Columns 1 and 2 have their mean at 1.5, columns 2 and 3 at 2.5: both round to 2.
    areas, centers = segment_centers(np.array([[0, 1, 1, 0], [0, 0, 2, 2]], np.int32), 2)
    assert areas.tolist() == [2, 2]
    assert centers.tolist() == [[0, 2], [1, 2]]


def test_the_center_is_that_of_the_visible_pixels_even_where_others_lie_there():
    # A ring around another thing: the mean of its pixels is the middle.
    ring = np.ones((5, 5), np.int32)
    ring[1:4, 1:4] = 2
    targets = _targets(ring, _table((0, 1, 0), (1, 1, 0)))
    assert targets.center_heatmap[2, 2] == 1
    assert targets.center_offsets[:, 0, 0].tolist() == [2, 2]


def test_the_heatmap_is_a_gaussian_cut_to_its_window():
    heatmap = draw_center_heatmap((41, 41), np.array([[20, 20]]), sigma=3.0)
    ys, xs = np.mgrid[0:41, 0:41] - 20
    expected = np.exp(-(ys**2 + xs**2) / 18.0)
    # 6 sigma + 3 = 21 pixels: 10 to each side.
    expected[(np.abs(ys) > 10) | (np.abs(xs) > 10)] = 0
    assert np.allclose(heatmap, expected, rtol=0, atol=1e-7) and heatmap.dtype == np.float32


def test_overlapping_gaussians_take_the_larger_value():
    one = draw_center_heatmap((9, 9), np.array([[2, 3]]), sigma=2.0)
    other = draw_center_heatmap((9, 9), np.array([[6, 5]]), sigma=2.0)
    both = draw_center_heatmap((9, 9), np.array([[2, 3], [6, 5]]), sigma=2.0)
    assert np.array_equal(both, np.maximum(one, other))


def test_a_gaussian_reaches_over_the_border():
    window, before = gaussian_window(1.0)
    heatmap = draw_center_heatmap((3, 4), np.array([[0, 3]]), sigma=1.0)
    assert np.array_equal(heatmap, window[before : before + 3, before - 3 : before + 1])


def test_a_segment_that_was_cropped_away_leaves_no_trace():
    targets = _targets(np.ones((6, 6), np.int32), _TABLE)
    assert np.all(targets.center_heatmap == 0) and np.all(targets.center_offsets == 0)


def test_an_all_void_map_has_no_weight_anywhere():
    targets = _targets(np.zeros((4, 4), np.int32), SegmentTable(*np.zeros((3, 0), np.int64)))
    assert np.all(targets.sem_seg == 255) and np.all(targets.center_heatmap == 0)
    assert np.all(targets.center_weights == 0) and np.all(targets.offset_weights == 0)


def test_semantic_only_mode_makes_no_instance_targets():
    targets = _targets(has_instances=False)
    assert targets.sem_seg[1, 1] == 3 and np.all(targets.sem_seg_weights == 1)
    assert targets.center_heatmap is None and targets.center_offsets is None


def test_targets_equal_those_written_pixel_by_pixel():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 8, (9, 11))
    segment_map = np.repeat(np.repeat(coarse, 5, 0), 7, 1).astype(np.int32)
    table = _table(*[(k % 4, k % 4 < 2, k == 4) for k in range(7)])
    targets = _targets(segment_map, table, sigma=4.0, small_instance_area=200)
    for k in np.flatnonzero(table.is_instance):
        points = np.argwhere(segment_map == k + 1)
        center = np.rint(points.mean(axis=0))
        weight = 3 if len(points) < 200 else 1
        for y, x in points:
            assert targets.center_offsets[:, y, x].tolist() == (center - (y, x)).tolist()
            assert targets.sem_seg_weights[y, x] == weight
        assert targets.center_heatmap[tuple(center.astype(int))] == 1


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        PanopticTargetGenerator(ignore_label=255, sigma=0)
