"""Colors of tracks, and of depths in a video."""

import numpy as np
import pytest
import torch

from deeplab2_d2.visualization import draw_depth, draw_tracks, draw_tracks_overlay, track_colors

COLORS = np.array([[0, 0, 0], [0, 0, 140], [220, 20, 60]])


def test_a_color_stays_with_class_and_number_whatever_else_is_seen():
    first = draw_tracks(torch.tensor([[-1, 101, 102, 200]]), COLORS, label_divisor=100)
    second = draw_tracks(np.array([[102, 205, 101]]), COLORS, label_divisor=100)
    assert first.dtype == np.uint8 and first[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(first[0, [1, 2]], second[0, [2, 0]])
    # Stuff has its class's color; black would be void.
    assert first[0, 3].tolist() == COLORS[2].tolist()
    assert track_colors(np.array([0]), COLORS, label_divisor=100).tolist() == [[1, 1, 1]]


def test_the_first_twenty_tracks_of_a_class_can_be_told_from_each_other():
    colors = track_colors(101 + np.arange(20), COLORS, label_divisor=100).astype(int)
    distances = np.linalg.norm(colors[:, None] - colors, axis=2)
    assert distances[~np.eye(20, dtype=bool)].min() > 15
    # Those that come one after the other are very different.
    assert np.diagonal(distances, 1).min() > 100


def test_a_class_without_a_color_is_named():
    with pytest.raises(ValueError, match=r"from 0 to 3 \* 100 - 1, got 301"):
        draw_tracks(np.array([[301]]), COLORS, label_divisor=100)


def test_an_overlay_shows_the_image_at_void_and_lines_between_segments():
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = draw_tracks_overlay(image, np.array([[-1, -1, 200]]), COLORS, label_divisor=100)
    assert picture[0, 0].tolist() == [100] * 3 and picture[0, 1].tolist() == [255] * 3
    # 0.6 of the class's color over 0.4 of the image.
    assert picture[0, 2].tolist() == [172, 52, 76]


def test_a_depth_has_one_color_in_all_frames_if_the_nearest_is_given():
    near = draw_depth(np.array([[2.0, 4.0, 0.0]]), nearest=2.0)
    far = draw_depth(np.array([[[4.0, 1.0]]]), nearest=2.0)
    assert near[0, 0].tolist() == [255] * 3 and near[0, 2].tolist() == [0] * 3
    assert np.array_equal(near[0, 1], far[0, 0])
    assert far[0, 1].tolist() == [255] * 3
