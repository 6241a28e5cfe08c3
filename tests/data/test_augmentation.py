import numpy as np
import pytest
from fvcore.transforms.transform import TransformList

from deeplab2_d2.data.augmentation import (
    AlignedResizeTransform,
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
    ResizeToRange,
)


def _coordinates(height, width):
    """An image whose channels are y, x and y + x, and a segment map that numbers the pixels."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([ys, xs, ys + xs], axis=-1), (1 + ys * width + xs).astype(np.int32)


def _apply(augmentation, height, width, seed):
    aug_input = PanopticAugInput(*_coordinates(height, width), np.random.default_rng(seed))
    augmentation(aug_input)
    return aug_input.image, aug_input.sem_seg


def test_a_crop_cuts_the_same_window_from_image_and_segment_map():
    image, segment_map = _apply(RandomCropOrPad((3, 5)), 7, 9, seed=0)
    assert image.shape == (3, 5, 3)
    assert np.array_equal(segment_map, 1 + image[..., 0] * 9 + image[..., 1])
    assert np.all(np.diff(image[..., 0], axis=0) == 1) and np.all(np.diff(image[..., 1]) == 1)


def test_padding_is_the_mean_pixel_and_void_and_moves_nothing_inside():
    image, segment_map = _apply(RandomCropOrPad((9, 4)), 3, 4, seed=0)
    rows = np.flatnonzero(segment_map[:, 0])
    assert len(rows) == 3 and rows[-1] - rows[0] == 2
    assert np.array_equal(segment_map[rows], np.arange(1, 13).reshape(3, 4))
    outside = np.setdiff1d(np.arange(9), rows)
    assert np.all(image[outside] == 127.5) and np.all(segment_map[outside] == 0)


def test_one_side_can_be_cut_while_the_other_is_padded():
    image, segment_map = _apply(RandomCropOrPad((6, 3)), 4, 8, seed=1)
    assert image.shape == (6, 3, 3)
    assert np.sum(segment_map > 0) == 4 * 3


@pytest.mark.parametrize("size", [3, 5])
def test_every_place_of_a_crop_or_a_pad_is_drawn(size):
    # A side of 4 in a crop of 3 has two places, in a crop of 5 as well.
    seen = {_apply(RandomCropOrPad((size, 4)), 4, 4, seed)[1].tobytes() for seed in range(20)}
    assert len(seen) == 2


def test_random_scale_draws_both_ends_and_only_the_steps():
    rng = np.random.default_rng(0)
    drawn = {round(RandomScale(0.5, 2.0, 0.1).draw(rng), 4) for _ in range(500)}
    assert drawn == {round(0.5 + 0.1 * k, 4) for k in range(16)}


def test_random_scale_without_step_draws_from_the_whole_range():
    rng = np.random.default_rng(0)
    drawn = [RandomScale(0.5, 2.0, 0.0).draw(rng) for _ in range(200)]
    assert 0.5 <= min(drawn) < 0.55 and 1.95 < max(drawn) < 2.0 and len(set(drawn)) == 200


def test_random_scale_rounds_sizes_down():
    image, segment_map = _apply(RandomScale(1.5, 1.5), 5, 7, seed=0)
    assert image.shape == (7, 10, 3) and segment_map.shape == (7, 10)


def test_resize_to_range_is_the_same_for_image_and_labels():
    image, segment_map = _apply(ResizeToRange(9, 9), 5, 3, seed=0)
    assert image.shape[:2] == segment_map.shape == (9, 5)


def test_flip_probability_is_kept_and_mirrors_columns():
    image, segment_map = _apply(RandomHorizontalFlip(1.0), 2, 5, seed=0)
    assert segment_map[0].tolist() == [5, 4, 3, 2, 1] and image[0, 0, 1] == 4
    assert _apply(RandomHorizontalFlip(0.0), 2, 5, seed=0)[1][0, 0] == 1
    flipped = [_apply(RandomHorizontalFlip(), 1, 2, seed)[1][0, 0] == 2 for seed in range(400)]
    assert 160 < sum(flipped) < 240


def test_augmentations_draw_from_the_given_generator_and_leave_the_global_one_alone():
    augmentations = [RandomScale(0.5, 2.0, 0.0), RandomCropOrPad((6, 6)), RandomHorizontalFlip()]

    def run(seed):
        aug_input = PanopticAugInput(*_coordinates(8, 8), np.random.default_rng(seed))
        transforms = TransformList([augmentation(aug_input) for augmentation in augmentations])
        return aug_input.image, transforms

    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first, transforms = run(3)
    assert np.array_equal(first, run(3)[0]) and not np.array_equal(first, run(4)[0])
    assert np.random.get_state()[1].tolist() == before
    # The transforms can be applied again, to other data of the same image.
    assert np.array_equal(transforms.apply_image(_coordinates(8, 8)[0]), first)


def test_aligned_resize_moves_corner_coordinates_to_corners_and_back():
    transform = AlignedResizeTransform((5, 9), (9, 33))
    corners = np.array([[0.0, 0.0], [8.0, 4.0]])
    moved = transform.apply_coords(corners)
    assert moved.tolist() == [[0.0, 0.0], [32.0, 8.0]]
    assert transform.inverse().apply_coords(moved).tolist() == corners.tolist()


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: RandomScale(0.0, 1.0), "min_scale"),
        (lambda: RandomScale(2.0, 1.0), "max_scale"),
        (lambda: RandomScale(1.0, 2.0, -0.1), "step"),
        (lambda: RandomCropOrPad((0, 5)), "crop_size"),
        (lambda: RandomHorizontalFlip(1.5), "probability"),
        (lambda: ResizeToRange(-1, 0), "min_size"),
    ],
)
def test_a_wrong_argument_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
