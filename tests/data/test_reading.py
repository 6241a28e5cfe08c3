import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.reading import read_image, read_panoptic_png


def test_png_colors_are_read_as_ids_red_first(tmp_path):
    colors = np.array([[[0, 0, 0], [7, 0, 0], [1, 2, 3]]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "a.png")
    assert read_panoptic_png(str(tmp_path / "a.png")).tolist() == [[0, 7, 1 + 2 * 256 + 3 * 65536]]


def test_a_missing_png_and_a_grey_png_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_panoptic_png(str(tmp_path / "nowhere.png"))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="grey.png must be RGB, got mode L"):
        read_panoptic_png(str(tmp_path / "grey.png"))


def test_a_grey_image_becomes_three_equal_channels(tmp_path):
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(tmp_path / "grey.png")
    image = read_image(str(tmp_path / "grey.png"), "RGB")
    assert image.tolist() == [[[0.0] * 3, [9.0] * 3]] and image.dtype == np.float32
