import numpy as np
import pytest
import torch

from deeplab2_d2.visualization import (
    draw_boundaries,
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic,
    draw_panoptic_overlay,
    draw_points,
    draw_semantic,
    overlay,
)

COLORS = np.array([[10, 20, 30], [200, 100, 50]])


def test_semantic_picture_has_class_colors_and_black_void():
    picture = draw_semantic(torch.tensor([[0, 1], [255, -1]]), COLORS)
    assert picture.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [0, 0, 0]]]


def test_first_segment_of_a_class_has_its_color_and_the_others_variants():
    segments = [{"id": 7, "category_id": 1}, {"id": 9, "category_id": 1}]
    picture = draw_panoptic(np.array([[7, 9, 0]]), segments, COLORS)
    assert picture[0, 0].tolist() == [200, 100, 50]
    assert picture[0, 1].tolist() != [200, 100, 50]
    assert picture[0, 2].tolist() == [0, 0, 0]


def test_heatmap_goes_from_black_through_red_and_yellow_to_white():
    picture = draw_heatmap(torch.tensor([[[-1.0, 1 / 3, 2 / 3, 1.0, 7.0]]]))
    black, red, yellow, white = [0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]
    assert picture[0].tolist() == [black, red, yellow, white, white]


def test_heatmap_may_be_scaled_to_its_own_maximum():
    assert draw_heatmap(np.array([[0.0, 0.2]]), maximum=None)[0, 1].tolist() == [255, 255, 255]
    assert draw_heatmap(np.zeros((1, 1)), maximum=None).tolist() == [[[0, 0, 0]]]


def test_offsets_show_direction_as_hue_and_length_as_saturation():
    # (dy, dx): right, left, none, half way right; the longest has length 4.
    offsets = np.array([[[0.0, 0.0, 0.0, 0.0]], [[4.0, -4.0, 0.0, 2.0]]])
    picture = draw_offsets(offsets)[0].tolist()
    assert picture == [[255, 0, 0], [0, 255, 255], [255, 255, 255], [255, 128, 128]]


def test_offsets_outside_the_mask_are_black_and_do_not_set_the_scale():
    offsets = np.array([[[0.0, 0.0]], [[1.0, 100.0]]])
    picture = draw_offsets(offsets, mask=np.array([[True, False]]))
    assert picture[0].tolist() == [[255, 0, 0], [0, 0, 0]]


def test_overlay_mixes_classes_and_leaves_void_as_the_image():
    image = torch.full((3, 1, 2), 100.0)
    picture = np.array([[[200, 0, 0], [0, 0, 0]]], np.uint8)
    assert overlay(image, picture, opacity=0.5)[0].tolist() == [[150, 50, 50], [100, 100, 100]]
    with pytest.raises(ValueError, match="picture must be"):
        overlay(image, picture[:, :1])


def test_boundaries_are_drawn_once_between_segments():
    ids = np.array([[1, 1, 2], [1, 1, 2]])
    marked = draw_boundaries(np.zeros((2, 3, 3), np.uint8), ids, color=(1, 1, 1))[..., 0]
    assert marked.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_points_are_crosses_cut_at_the_border():
    picture = np.zeros((3, 4, 3), np.uint8)
    points = torch.tensor([[0.0, 1.0], [5.0, 9.0]])
    marked = draw_points(picture, points, color=(1, 1, 1), radius=1)
    assert marked[..., 0].tolist() == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert picture.max() == 0


def test_image_is_rounded_clipped_and_turned_to_channels_last():
    image = torch.tensor([300.0, -5.0, 1.6]).reshape(3, 1, 1)
    assert draw_image(image).tolist() == [[[255, 0, 2]]]
    with pytest.raises(ValueError, match="image must be"):
        draw_image(np.zeros((4, 5)))


def test_panoptic_overlay_mixes_class_colors_and_outlines_segments():
    image = torch.full((3, 3, 1), 100)
    segments = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 1}]
    panoptic = (torch.tensor([[1], [2], [2]]), segments)
    picture = draw_panoptic_overlay(image, panoptic, np.array([[250, 0, 0], [0, 250, 0]]))
    # A boundary where the next row is another segment; else six tenths of the class's color.
    assert picture[:, 0].tolist() == [[255, 255, 255], [40, 190, 40], [40, 190, 40]]
