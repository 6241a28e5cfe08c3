import numpy as np
import pytest

from deeplab2_d2.data.augmentation import PanopticAugInput
from deeplab2_d2.data.autoaugment import (
    POLICIES,
    AutoAugment,
    apply_operation,
    auto_contrast,
    equalize,
    posterize,
    sharpness,
    solarize,
)


def _image(*values):
    """A row of grey pixels."""
    return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)


def test_auto_contrast_stretches_each_channel_and_leaves_a_flat_one():
    image = _image(50, 100, 150)
    image[..., 2] = 7
    # (100 - 50) * 255 / 100 = 127.5, cut off.
    assert auto_contrast(image)[0].tolist() == [[0, 0, 7], [127, 127, 7], [255, 255, 7]]


def test_equalize_leaves_an_image_with_too_few_pixels_alone():
    # 3 pixels less the last grey level's make no step of 255.
    assert np.array_equal(equalize(_image(1, 2, 3)), _image(1, 2, 3))


def test_equalize_spreads_two_halves_over_the_range():
    image = _image(*[100] * 510, *[101] * 510)
    # step 510 // 255 = 2; 100 -> 0, 101 -> (510 + 1) // 2 = 255.
    assert np.array_equal(equalize(image), _image(*[0] * 510, *[255] * 510))


def test_posterize_and_solarize_worked_by_hand():
    assert posterize(_image(255, 130, 5), 2)[0, :, 0].tolist() == [192, 128, 0]
    assert solarize(_image(10, 128, 200), 128)[0, :, 0].tolist() == [10, 127, 55]


def test_sharpness_leaves_the_border_and_one_bright_pixel_spreads():
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 130
    smooth = sharpness(image, 0.0)
    assert smooth[2, 2, 0] == 50 and smooth[1, 1, 0] == 10 and smooth[0, 0, 0] == 0
    assert np.array_equal(sharpness(image, 1.0), image)


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_level_five_of_an_enhancement_changes_nothing(name):
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    assert np.array_equal(apply_operation(image, name, 5.0), image)
    assert not np.array_equal(apply_operation(image, name, 9.0), image)


def test_operations_leave_their_input_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    before = image.copy()
    for name in ("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "Sharpness"):
        apply_operation(image, name, 4.0)
        assert np.array_equal(image, before)


def _augmented(magnitude, seed):
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.float32) + 0.25
    segment_map = np.arange(72, dtype=np.int32).reshape(8, 9)
    aug_input = PanopticAugInput(image, segment_map, np.random.default_rng(seed))
    AutoAugment("simple_classification_policy", magnitude)(aug_input)
    assert np.array_equal(aug_input.sem_seg, np.arange(72).reshape(8, 9))
    assert aug_input.image.dtype == np.float32
    return aug_input.image, image


def test_the_policy_changes_colors_only_and_only_sometimes():
    changed = 0
    for seed in range(100):
        image, before = _augmented(1.0, seed)
        changed += not np.array_equal(image, before)
        assert image.min() >= 0 and image.max() <= 256
    # Mean over the rows of 1 - (1 - p)(1 - q): 0.52, 0.2, 0.36, 0.68, 0.36 -> 0.42.
    assert 30 <= changed <= 56


def test_the_policy_is_drawn_from_the_generator():
    assert np.array_equal(_augmented(1.0, 3)[0], _augmented(1.0, 3)[0])


def test_an_unknown_policy_and_a_wrong_magnitude_are_named():
    with pytest.raises(ValueError, match="policy must be one of .*'no_policy'"):
        AutoAugment("no_policy")
    with pytest.raises(ValueError, match="magnitude"):
        AutoAugment(next(iter(POLICIES)), 1.5)
