import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.reading import read_image


def test_a_grey_image_becomes_three_equal_channels(tmp_path):
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(tmp_path / "grey.png")
    image = read_image(str(tmp_path / "grey.png"), "RGB")
    assert image.tolist() == [[[0.0] * 3, [9.0] * 3]] and image.dtype == np.float32


def test_images_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="image .*nowhere.png does not exist"):
        read_image(str(tmp_path / "nowhere.png"), "RGB")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "large.png")
    # PIL refuses images of more than twice as many pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="image .*large.png cannot be read: .*1600 pixels"):
        read_image(str(tmp_path / "large.png"), "RGB")
