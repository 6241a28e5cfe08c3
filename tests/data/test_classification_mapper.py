"""Crops of a classifier's samples."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab2_d2.data.classification_mapper import (
    COLOR_POLICIES,
    ClassificationMapper,
    resized_part,
)


@pytest.fixture
def record(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return {"file_name": str(tmp_path / "image.png"), "image_id": "image", "class_id": 3}


def test_evaluation_sees_the_middle_of_the_shorter_sides_part():
    # 100 x 200 for a square of 70 at 0.875: 87.5 pixels in the middle, as an image whose shorter
    # side is brought to 80 and cut to 70 shows.
    mapper = ClassificationMapper(is_train=False, size=(70, 70), crop_fraction=0.875)
    assert mapper.middle_box((100, 200)) == (6, 56, 88, 88)
    # Of another shape, it fits in both sides.
    mapper = ClassificationMapper(is_train=False, size=(50, 100), crop_fraction=1.0)
    assert mapper.middle_box((100, 100)) == (25, 0, 50, 100)


def test_training_parts_have_the_areas_and_shapes_that_are_asked_for():
    mapper = ClassificationMapper(
        is_train=True, size=(8, 8), area_range=(0.2, 0.6), aspect_range=(0.5, 2.0)
    )
    rng = np.random.default_rng(0)
    boxes = np.array([mapper.draw_box((400, 500), rng) for _ in range(500)])
    areas, ratios = boxes[:, 2] * boxes[:, 3] / 200_000, boxes[:, 3] / boxes[:, 2]
    assert 0.199 < areas.min() < 0.25 and 0.55 < areas.max() < 0.601
    assert 0.49 < ratios.min() < 0.55 and 1.8 < ratios.max() < 2.02
    # As many wide as tall ones: the logarithm is drawn evenly.
    assert 0.4 < (ratios > 1).mean() < 0.6
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 400 and (boxes[:, 1] + boxes[:, 3]).max() <= 500


def test_an_image_in_which_no_part_fits_gives_its_middle():
    # 10 x 1000: every part of a tenth of its area and a ratio of at most 2 is taller than 10.
    mapper = ClassificationMapper(
        is_train=True, size=(8, 8), area_range=(0.1, 1.0), aspect_range=(0.5, 2.0)
    )
    assert mapper.draw_box((10, 1000), np.random.default_rng(0)) == (0, 490, 10, 20)


def test_a_part_is_low_passed_where_it_shrinks():
    # Lines of one pixel: their mean, where sampling would see some of them alone.
    image = np.tile(np.array([0.0, 255.0], np.float32)[None, :, None], (16, 8, 3))
    small = resized_part(image, (0, 0, 16, 16), (4, 4))
    assert np.abs(small - 127.5).max() < 20


@pytest.mark.parametrize("policy", COLOR_POLICIES)
def test_a_sample_is_a_function_of_its_generator(record, policy):
    mapper = ClassificationMapper(is_train=True, size=(16, 24), policy=policy)
    before = torch.random.get_rng_state()
    samples = [mapper(record, np.random.default_rng([5, k])) for k in (0, 1, 0)]
    assert torch.equal(samples[0]["image"], samples[2]["image"])
    assert not torch.equal(samples[0]["image"], samples[1]["image"])
    assert samples[0]["image"].shape == (3, 16, 24) and samples[0]["class_id"].item() == 3
    assert 0 <= samples[0]["image"].min() and samples[0]["image"].max() <= 255
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="policy must be one of"):
        ClassificationMapper(is_train=True, size=(8, 8), policy="cutmix")
