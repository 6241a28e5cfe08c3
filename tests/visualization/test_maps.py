"""Maps of each kind as pictures."""

from typing import get_args

import numpy as np
import pytest
import torch

from deeplab2_d2.structures import MapKind
from deeplab2_d2.visualization import draw_map, make_class_colors

CHANNELS = {"logits": 4, "probability": 1, "heatmap": 1, "offset": 2, "depth": 1, "embedding": 5}


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_map_of_every_kind_has_a_picture(kind):
    picture = draw_map(torch.rand(CHANNELS[kind], 6, 7), kind)
    assert picture.shape == (6, 7, 3) and picture.dtype == np.uint8 and picture.std() > 0


def test_no_kind_of_map_was_forgotten():
    assert {*CHANNELS, "slot_logits"} == set(get_args(MapKind))
    with pytest.raises(ValueError, match="kind must be that of a map of pixels"):
        draw_map(torch.rand(1, 6, 7), "slot_logits")


def test_what_is_near_is_bright_and_what_is_unknown_black():
    picture = draw_map(np.array([[[0.0, 1.0, 2.0, 4.0]]]), "depth").astype(int).sum(axis=2)[0]
    # Nearness 0, 1, 1/2, 1/4 of the ramp from 0 to 3 * 255.
    assert picture.tolist() == [0, 765, 383, 191]


def test_logits_show_the_largest():
    logits = np.array([[[0.0, 2.0]], [[1.0, 1.0]]])
    assert draw_map(logits, "logits").tolist() == [make_class_colors(2)[[1, 0]].tolist()]


def test_offsets_are_black_outside_their_mask_and_as_long_as_the_longest_inside():
    offsets = np.zeros((2, 1, 3))
    offsets[1] = [[1.0, 2.0, 50.0]]
    mask = np.array([[True, True, False]])
    # To the right, so red: of half and of full saturation, since the 50 do not count.
    expected = [[255, 128, 128], [255, 0, 0], [0, 0, 0]]
    assert draw_map(offsets, "offset", mask=mask).tolist() == [expected]
