import numpy as np
import pytest

from deeplab2_d2.data.frame_targets import (
    CenterNoise,
    depth_target,
    frame_offset_targets,
    next_offset_targets,
    previous_centers,
)
from deeplab2_d2.data.segment_map import SegmentTable

# Two things and stuff; the second thing is only in the later frame.
_TABLE = SegmentTable(
    np.array([0, 0, 5]), np.array([True, True, False]), np.array([False, False, False])
)
_EARLIER = np.array([[1, 1, 1, 3, 3, 3]], np.int32)
_LATER = np.array([[3, 3, 1, 1, 1, 2]], np.int32)


def test_pixels_point_to_where_their_object_was():
    # The first thing was around column 1 and is at 2, 3, 4 now; the second was not there.
    offsets, weights = frame_offset_targets(_LATER, previous_centers(_EARLIER, _TABLE))
    assert offsets[1].tolist() == [[0, 0, -1, -2, -3, 0]]
    assert np.all(offsets[0] == 0)
    assert weights.tolist() == [[0, 0, 1, 1, 1, 0]]


def test_pixels_of_the_next_frame_point_to_where_their_object_is_now():
    offsets, weights = next_offset_targets(_EARLIER, _LATER, _TABLE)
    assert offsets[1].tolist() == [[0, 0, -1, -2, -3, 0]]
    # A pixel that lies on the center has no weight, as in DeepLab2.
    offsets, weights = next_offset_targets(_EARLIER, _EARLIER, _TABLE)
    assert offsets[1].tolist() == [[1, 0, -1, 0, 0, 0]]
    assert weights.tolist() == [[1, 0, 1, 0, 0, 0]]


def test_the_heatmap_shows_the_objects_of_the_previous_frame():
    heatmap = previous_centers(_EARLIER, _TABLE, sigma=1.0).heatmap
    assert heatmap[0, 1] == 1 and heatmap.argmax() == 1


def test_noise_moves_centers_in_proportion_to_the_object_and_keeps_them_inside():
    segment_map = np.zeros((41, 81), np.int32)
    segment_map[:, :] = 1
    centers = np.array(
        [
            previous_centers(
                segment_map,
                _TABLE,
                noise=CenterNoise(offset=0.05),
                rng=np.random.default_rng(seed),
            ).centers[0]
            for seed in range(200)
        ]
    )
    # 5% of extents 40 and 80 around (20, 40).
    assert np.allclose(centers.mean(axis=0), (20, 40), atol=0.8)
    assert np.allclose(centers.std(axis=0), (2, 4), rtol=0.2)
    wild = previous_centers(
        segment_map, _TABLE, noise=CenterNoise(offset=50.0), rng=np.random.default_rng(1)
    )
    assert np.all(wild.centers[0] >= 0) and np.all(wild.centers[0] <= (40, 80))


def test_false_positives_add_a_second_peak_at_their_rate():
    segment_map = np.ones((61, 61), np.int32)
    noise = CenterNoise(offset=0.0, false_positive_rate=0.5, false_positive_offset=0.2)
    peaks = [
        int(
            (
                previous_centers(
                    segment_map, _TABLE, sigma=1.0, noise=noise, rng=np.random.default_rng(seed)
                ).heatmap
                == 1
            ).sum()
        )
        for seed in range(100)
    ]
    assert set(peaks) == {1, 2} and 35 <= peaks.count(2) <= 65


def test_noise_needs_a_generator():
    with pytest.raises(ValueError, match="rng must be given"):
        previous_centers(_EARLIER, _TABLE, noise=CenterNoise())


def test_depth_is_divided_by_the_scale_of_the_image():
    # 1024 / 256 = 4 m; at twice the size 2 m; 5 / 2 is cut off to 2 before the division by 256.
    depth = np.array([[1024, 5, 0]], np.int32)
    assert depth_target(depth).tolist() == [[4.0, 5 / 256, 0.0]]
    assert depth_target(depth, scale=2.0).tolist() == [[2.0, 2 / 256, 0.0]]
