import pytest
import torch

from deeplab2_d2.models.image_batch import batch_images, next_grid_size

MEAN = torch.full((3, 1, 1), 127.5)


def batch(images, **kwargs):
    return batch_images(images, pixel_mean=MEAN, pixel_std=MEAN, stride=16, **kwargs)


@pytest.mark.parametrize(
    "size, expected",
    [((1, 1), (1, 1)), ((2, 17), (17, 17)), ((18, 33), (33, 33)), ((1024, 2048), (1025, 2049))],
)
def test_grid_size_is_the_next_one_plus_a_multiple_of_the_stride(size, expected):
    assert next_grid_size(size, 16) == expected


def test_images_of_different_sizes_stand_top_left_and_are_padded_with_the_mean_pixel():
    small = torch.full((3, 10, 20), 255, dtype=torch.uint8)
    large = torch.zeros((3, 18, 5), dtype=torch.uint8)
    images = batch([small, large])
    assert images.image_sizes == [(10, 20), (18, 5)]
    expected = torch.zeros(2, 3, 33, 33)  # 18 rows and 20 columns need 33 = 1 + 2 * 16
    expected[0, :, :10, :20] = 1.0
    expected[1, :, :18, :5] = -1.0
    assert torch.equal(images.tensor, expected)


def test_pad_to_is_a_least_size_not_a_crop():
    image = torch.zeros(3, 40, 10)
    assert batch([image], pad_to=(33, 65)).tensor.shape[-2:] == (49, 65)


@pytest.mark.parametrize("image", [torch.zeros(1, 4, 4), torch.zeros(4, 4), torch.zeros(3, 0, 4)])
def test_an_image_of_another_shape_is_refused_with_its_shape(image):
    with pytest.raises(ValueError, match=r"must be \(3, h, w\), got"):
        batch([image])


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        batch([])
