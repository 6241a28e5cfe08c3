import numpy as np
import pytest

from deeplab2_d2.data.resizing import resize_bilinear, resize_nearest, scaled_size, size_in_range


def test_bilinear_keeps_the_corner_pixels_in_the_corners():
    # Three pixels to five: positions 0, 0.5, 1, 1.5, 2 of the source.
    row = np.array([0.0, 2.0, 6.0], np.float32)
    image = np.broadcast_to(row[None, :, None], (2, 3, 3))
    resized = resize_bilinear(image, (2, 5))
    assert resized[0, :, 0].tolist() == [0.0, 1.0, 2.0, 4.0, 6.0]
    assert resized.shape == (2, 5, 3)


def test_bilinear_to_one_pixel_takes_the_first():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    assert resize_bilinear(image, (1, 1)).tolist() == [[[0.0]]]


def test_nearest_takes_the_later_of_two_pixels_at_the_same_distance():
    # Two pixels to three: the middle one lies halfway.
    assert resize_nearest(np.array([[4, 9]], np.int32), (1, 3)).tolist() == [[4, 9, 9]]


def test_nearest_shrinks_to_every_second_pixel():
    labels = np.arange(25, dtype=np.int32).reshape(5, 5)
    assert resize_nearest(labels, (3, 3)).tolist() == labels[::2, ::2].tolist()


def test_resizing_to_the_same_size_returns_the_input_itself():
    image, labels = np.zeros((3, 4, 3), np.float32), np.zeros((3, 4), np.int32)
    assert resize_bilinear(image, (3, 4)) is image
    assert resize_nearest(labels, (3, 4)) is labels


@pytest.mark.parametrize(
    "size, bounds, wanted",
    [
        # 480 x 640 up by 641 / 480 to 641 x 854, then down by 641 / 854.
        ((480, 640), ((641, 641), (641, 641)), (481, 641)),
        # Larger than the least size as well: scaled down to it.
        ((480, 640), ((240, 240), None), (240, 320)),
        # No least size: an image that fits is left alone, a larger one shrinks.
        ((480, 640), (None, (1000, 1000)), (480, 640)),
        ((480, 640), (None, (320, 320)), (240, 320)),
        # A zero is no bound.
        ((480, 640), ((0, 0), (0, 0)), (480, 640)),
        # Height and width have their own bounds.
        ((100, 400), ((50, 100), (1000, 200)), (50, 200)),
    ],
)
def test_size_in_range_reaches_the_least_size_unless_the_greatest_forbids(size, bounds, wanted):
    assert size_in_range(size, *bounds) == wanted


def test_size_in_range_rounds_up_to_one_plus_a_multiple_within_the_greatest_size():
    # The greatest size 100 first becomes 97 = 1 + 3 * 32: 65 x 97 fits the factor already.
    assert size_in_range((200, 300), None, (100, 100), factor=32) == (65, 97)
    assert size_in_range((64, 66), factor=32) == (65, 97)


def test_scaled_size_rounds_down_in_float32():
    # 0.7 is a little less than 0.7 in float32, and 100 x that rounds to 70 there.
    assert scaled_size((100, 10), 0.7) == (int(np.float32(100) * np.float32(0.7)), 7 - 1 + 1)
    assert scaled_size((3, 3), 0.1) == (1, 1)
