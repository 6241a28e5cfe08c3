"""Scale and crop in one, beside the two one after the other."""

import numpy as np
import pytest
from fvcore.transforms.transform import TransformList

from deeplab2_d2.data import PanopticDatasetMapper, PanopticTargetGenerator
from deeplab2_d2.data.augmentation import (
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
)
from deeplab2_d2.data.scale_and_crop import RandomScaleAndCrop, join_scales_and_crops


def _inputs(height, width):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (height, width, 3)).astype(np.float32)
    return image, rng.integers(1, 99, (height, width), dtype=np.int32)


def _run(augmentations, size, seed):
    rng = np.random.default_rng(seed)
    aug_input = PanopticAugInput(*_inputs(*size), rng)
    transforms = TransformList([augmentation(aug_input) for augmentation in augmentations])
    return aug_input.image, aug_input.sem_seg, transforms, rng.random()


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (7, 90), (1, 1)])
@pytest.mark.parametrize("crop_size", [(33, 65), (1, 1), (200, 20)])
@pytest.mark.parametrize("padding", [0, 7])
def test_it_draws_and_gives_what_the_two_do(size, crop_size, padding):
    scale, crop = RandomScale(0.3, 2.0, 0.1), RandomCropOrPad(crop_size, 99.5, padding)
    for seed in range(12):
        image, segments, transforms, drawn = _run([RandomScaleAndCrop(scale, crop)], size, seed)
        expected = _run([scale, crop], size, seed)
        assert np.array_equal(image, expected[0]) and np.array_equal(segments, expected[1])
        assert drawn == expected[3]
        assert segments.dtype == expected[1].dtype and image.dtype == np.float32
        points = np.array([[0.0, 0.0], [3.5, 2.0]])
        others = expected[2].apply_coords(points.copy())
        np.testing.assert_allclose(transforms.apply_coords(points.copy()), others, atol=1e-9)


def test_a_mirrored_image_and_one_of_other_strides_are_taken():
    image, _ = _inputs(20, 30)
    crop = RandomScaleAndCrop(RandomScale(1.5, 1.5), RandomCropOrPad((9, 50)))
    transform = crop.get_transform(image, np.random.default_rng(0))
    expected = transform.apply_image(image[:, ::-1].copy())
    assert np.array_equal(transform.apply_image(image[:, ::-1]), expected)
    upright = transform.apply_image(image)
    assert not np.array_equal(upright, expected)
    image.flags.writeable = False
    assert np.array_equal(transform.apply_image(image), upright)


def test_without_scale_pixels_are_as_they_were():
    image, segments, _, _ = _run(
        [RandomScaleAndCrop(RandomScale(1.0, 1.0), RandomCropOrPad((8, 70)))], (40, 60), 3
    )
    original, labels = _inputs(40, 60)
    top = next(y for y in range(33) if np.array_equal(labels[y], segments[0][segments[0] > 0]))
    left = int(np.flatnonzero((image[0] != 127.5).any(axis=-1))[0])
    assert np.array_equal(image[:, left : left + 60], original[top : top + 8])


def test_a_mapper_joins_the_two_unless_something_lies_between():
    scale, crop, flip = RandomScale(0.5, 2.0), RandomCropOrPad((33, 65)), RandomHorizontalFlip()
    joined = join_scales_and_crops([scale, crop, flip])
    assert [type(part) for part in joined] == [RandomScaleAndCrop, RandomHorizontalFlip]
    assert joined[0].scale is scale and joined[0].crop is crop
    for others in ([scale, flip, crop], [crop, scale], [scale, scale], []):
        assert join_scales_and_crops(others) == others

    class Other(RandomCropOrPad):
        """Who knows what it does."""

    others = [scale, Other((33, 65))]
    assert join_scales_and_crops(others) == others
    mapper = PanopticDatasetMapper(
        is_train=True,
        augmentations=[scale, crop],
        target_generator=PanopticTargetGenerator(ignore_label=255),
        paste_augmentations=[scale, crop, flip],
    )
    assert [type(part) for part in mapper.augmentations.augs] == [RandomScaleAndCrop]
    assert len(mapper.paste_augmentations.augs) == 2
