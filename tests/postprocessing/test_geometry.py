"""One affine map per axis between the heads' maps and the original image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deeplab2_d2.postprocessing import Frames, semantic_scores
from deeplab2_d2.postprocessing.geometry import FrameGeometry


def test_equal_frames_have_the_scale_that_deeplab2_resizes_with():
    geometry = FrameGeometry((17, 25), (65, 97), (65, 97), (65, 97))
    assert geometry.output_to_map == (0.25, 0.25)
    assert geometry.map_to_output == (4.0, 4.0)
    assert geometry.image_to_output == (1.0, 1.0)


def test_output_corner_is_the_images_corner_in_the_map():
    # Row 120 of the output is row 60 of the input (of 64), which is row 15 of the map (of 16).
    geometry = FrameGeometry((17, 25), (65, 97), (61, 81), (121, 161))
    assert [s * 120 for s in geometry.output_to_map] == pytest.approx([15.0, 15.0], rel=1e-6)
    assert geometry.map_to_output == (8.0, 8.0) and geometry.image_to_output == (2.0, 2.0)


def test_linear_maps_stay_linear_through_padding_and_resizing():
    rows = torch.arange(17.0)[:, None].expand(17, 25)[None, None]
    scores = semantic_scores(rows, Frames((65, 97), (61, 81), (31, 41)))
    expected = torch.linspace(0, 15, 31)[:, None].expand(31, 41)
    torch.testing.assert_close(scores[0, 0], expected, rtol=1e-6, atol=1e-5)


def test_upsampling_is_pytorchs_within_its_rounding():
    logits = torch.randn(1, 3, 17, 25)
    scores = semantic_scores(logits, Frames.unpadded((65, 97)))
    expected = F.interpolate(logits, size=(65, 97), mode="bilinear", align_corners=True)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_single_pixels_have_finite_scales(size):
    geometry = FrameGeometry(size, size, size, size)
    assert np.isfinite([*geometry.output_to_map, *geometry.map_to_output]).all()


def test_image_larger_than_the_input_is_refused():
    with pytest.raises(ValueError, match=r"image_size must lie within input_size \(65, 97\)"):
        FrameGeometry((17, 25), (65, 97), (66, 97), (65, 97))
