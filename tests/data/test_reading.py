import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.reading import read_image
from deeplab2_d2.structures import is_photo_turned, photo_size, read_label_map


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


def test_sixteen_bits_become_eight_by_the_ratio_of_their_whites(tmp_path):
    # 65535 / 255 = 257, so that 51400 = 200 * 257 is 200.
    Image.fromarray(np.array([[0, 257, 51400, 65535]], np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.array([[0, 257, 51400, 65535]], np.uint16)).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        image = read_image(str(tmp_path / name), "BGR")
        assert image[0, :, 1].tolist() == [0.0, 1.0, 200.0, 255.0] and image.shape == (1, 4, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_white_are_refused(tmp_path, dtype):
    Image.fromarray(np.array([[0, 1]], dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif must have 8 or 16 bits a channel.*TIFF of mode"):
        read_image(str(tmp_path / "a.tif"), "RGB")


# What Pillow's documentation says of each orientation; stored is 1 2 / 3 4 / 5 6.
UPRIGHT = {
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[5, 3, 1], [6, 4, 2]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[2, 4, 6], [1, 3, 5]],
}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photos_are_read_and_measured_upright(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = str(tmp_path / f"photo.{ending}")
    Image.fromarray(np.array(UPRIGHT[1], np.uint8)).save(file, exif=exif)
    image = read_image(file, "RGB")
    assert image[:, :, 0].tolist() == UPRIGHT[orientation]
    assert photo_size(file) == image.shape[:2]
    assert is_photo_turned(file) == (orientation != 1)
    assert read_label_map(file).tolist() == UPRIGHT[orientation]


def test_an_orientation_that_cannot_be_read_turns_nothing(tmp_path):
    Image.new("L", (2, 1)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff")
    assert photo_size(str(tmp_path / "a.jpg")) == (1, 2)
    assert read_image(str(tmp_path / "a.jpg"), "RGB").shape == (1, 2, 3)
