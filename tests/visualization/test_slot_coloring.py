import numpy as np
import torch

from deeplab2_d2.visualization.slots import draw_attention, draw_mask, feature_colors
from deeplab2_d2.visualization.slots.coloring import OUTLINE_COLOR
from deeplab2_d2.visualization.slots.sizes import fit, pick, resize


def test_three_features_are_red_green_and_blue():
    # Two pixels: (-1, 0, 1) and (0.6, -0.8, 0).
    features = torch.tensor([[[-1.0, 0.6]], [[0.0, -0.8]], [[1.0, 0.0]]])
    expected = np.array([[[0.0, 0.5, 1.0], [0.8, 0.1, 0.5]]])
    np.testing.assert_allclose(feature_colors(features), expected, atol=1e-7)


def test_three_features_outside_of_the_sphere_are_cut_off():
    assert feature_colors(np.array([2.0, -3.0, 1.0]).reshape(3, 1, 1)).tolist() == [[[1, 0, 1]]]


def test_other_numbers_of_features_are_principal_components():
    # Along (3, 4, 0, 0) / 5 the pixels lie at -2, 0, 0, 2; along the third axis at 0, 1, -1, 0.
    features = np.zeros((4, 2, 2))
    features[0] = [[-1.2, 0.0], [0.0, 1.2]]
    features[1] = [[-1.6, 0.0], [0.0, 1.6]]
    features[2] = [[0.0, 1.0], [-1.0, 0.0]]
    colors = feature_colors(features + 7.0)
    np.testing.assert_allclose(colors[..., 0], [[0.0, 0.5], [0.5, 1.0]], atol=1e-12)
    np.testing.assert_allclose(colors[..., 1], [[0.5, 1.0], [0.0, 0.5]], atol=1e-12)
    # There is no third direction.
    assert not colors[..., 2].any()


def test_negated_features_have_the_mirrored_colors():
    # Because the sign of an axis is that of its largest entry.
    features = np.random.default_rng(0).normal(size=(5, 4, 6))
    np.testing.assert_allclose(feature_colors(-features), 1.0 - feature_colors(features), atol=1e-9)


def test_equal_features_and_few_features_have_colors_too():
    assert not feature_colors(np.full((8, 2, 3), 0.3)).any()
    # One channel is one component, from 0 to 1.
    assert feature_colors(np.array([[[5.0, 7.0, 6.0]]]))[0, :, 0].tolist() == [0.0, 1.0, 0.5]


def test_attention_is_hot_where_it_is_large_and_shows_the_image_where_there_is_none():
    image = np.full((1, 3, 3), (30, 60, 90), np.uint8)
    picture = draw_attention(image, np.array([[0.0, 0.02, 0.04]]))
    # None: the gray 60 at half its brightness. Largest: white. Half of it: the mean of gray and of
    # the ramp at 1.5, which is (255, 127.5, 0), rounded to even: (255, 128, 0).
    assert picture.tolist() == [[[30, 30, 30], [142, 79, 15], [255, 255, 255]]]


def test_no_attention_at_all_is_the_dimmed_image():
    assert (draw_attention(np.full((2, 2, 3), 80), np.zeros((2, 2))) == 40).all()


def test_a_mask_shows_its_pixels_in_color_within_an_outline():
    image = np.full((1, 4, 3), (30, 60, 90), np.uint8)
    picture = draw_mask(image, np.array([[False, False, True, True]]))
    # The pixel before the border is the outline's.
    assert picture[0, 0].tolist() == [30, 30, 30] and picture[0, 1].tolist() == list(OUTLINE_COLOR)
    assert picture[0, 2:].tolist() == [[30, 60, 90]] * 2


def test_sizes_keep_the_shape_and_are_never_larger():
    assert fit((480, 640), 320) == (240, 320)
    assert fit((129, 161), 320) == (129, 161)
    assert fit((1, 5000), 100) == (1, 100)


def test_labels_are_picked_and_pictures_are_mixed():
    labels = np.arange(20).reshape(4, 5)
    assert pick(labels, (2, 3)).tolist() == [[0, 2, 4], [15, 17, 19]]
    assert pick(labels, (4, 5)).tolist() == labels.tolist()
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:, 1] = 200
    assert resize(picture, (1, 1)).tolist() == [[[100, 100, 100]]]
