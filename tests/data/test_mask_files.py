import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.mask_files import read_mask

# An instance in the middle of three pixels.
EXPECTED = [[False, True, False]]


def _read(tmp_path, pixels, mode=None):
    image = Image.fromarray(np.array([pixels], np.uint8))
    (image if mode is None else image.convert(mode)).save(tmp_path / "apple.png")
    return read_mask(str(tmp_path / "apple.png")).tolist()


@pytest.mark.parametrize(
    "pixels",
    [
        [0, 255, 0],
        [[0, 0, 0], [9, 0, 0], [0, 0, 0]],
        # Gray and alpha, color and alpha: an opaque drawing on black,
        [[0, 255], [255, 255], [0, 255]],
        [[0, 0, 0, 255], [255, 255, 255, 255], [0, 0, 0, 255]],
        # one cut out of white or of color, whatever is below what is transparent,
        [[255, 255, 255, 0], [255, 255, 255, 255], [7, 8, 9, 0]],
        # and a black one that is not transparent.
        [[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0]],
    ],
)
def test_a_mask_is_what_is_to_be_seen_of_it(tmp_path, pixels):
    assert _read(tmp_path, pixels) == EXPECTED


def test_alpha_that_contradicts_the_colors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="apple.png must have its instance in what is not trans"):
        _read(tmp_path, [[255, 255, 255, 0], [0, 0, 0, 255], [255, 255, 255, 0]])


def test_a_palette_must_have_black_at_its_number_0(tmp_path):
    image = Image.fromarray(np.array([[0, 3, 0]], np.uint8), "P")
    image.putpalette([0, 0, 0] + [200, 0, 0] * 3)
    image.save(tmp_path / "apple.png")
    assert read_mask(str(tmp_path / "apple.png")).tolist() == EXPECTED
    # White is number 0 and black 3: by numbers the instance would be the outside.
    image.putpalette([255, 255, 255] + [0, 0, 0] * 3)
    image.save(tmp_path / "apple.png")
    with pytest.raises(ValueError, match="one color, black, outside"):
        read_mask(str(tmp_path / "apple.png"))
