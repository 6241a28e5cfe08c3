"""How the pixel-wise contrastive loss draws pixels: Gumbel-top-k, by the inverse area of masks."""

import math

import pytest
import torch

from deeplab2_d2.losses import build_mask_targets, pixel_contrastive_loss

# Pixels of the masks: a stuff class and two things of eight pixels in all, one of which is void.
AREAS = (4, 2, 1)
IDS = (0, 0, 0, 0, 1, 1, 2, -1)


def targets_of(num_images):
    """Images with AREAS each."""
    semantic = torch.tensor([0, 0, 0, 0, 2, 2, 2, 255]).view(1, 2, 4)
    things = torch.tensor([-1, -1, -1, -1, 0, 0, 1, -1]).view(1, 2, 4)
    return build_mask_targets(
        semantic.repeat(num_images, 1, 1),
        things.repeat(num_images, 1, 1),
        torch.tensor([[2, 2]]).repeat(num_images, 1),
        size=(2, 4),
        thing_ids=[2],
        stuff_ids=[0, 1],
        ignore_label=255,
    )


def drawn_pixels(num_images, **options):
    """(num_images, 8) bool: a pixel that is drawn has a gradient, for its features are random."""
    torch.manual_seed(0)
    features = torch.randn(1, 5, 8).repeat(num_images, 1, 1).requires_grad_()
    pixel_contrastive_loss(features, targets_of(num_images), **options).sum().backward()
    return features.grad.abs().sum(1) > 0


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 1.5])
def test_pixels_are_drawn_by_the_inverse_area_of_their_mask_to_a_power(temperature):
    num_images = 20000
    drawn = drawn_pixels(num_images, num_samples=2, sample_temperature=temperature)
    assert (drawn.sum(1) == 2).all()
    weights = [AREAS[i] ** -temperature if i >= 0 else 0.0 for i in IDS]
    total = sum(weights)
    # The first draw is in proportion to the weights, the second to those that are left.
    expected = [
        weight / total
        + sum(
            other / total * weight / (total - other)
            for index, other in enumerate(weights)
            if index != pixel
        )
        for pixel, weight in enumerate(weights)
    ]
    assert math.isclose(sum(expected), 2.0)
    found = drawn.double().mean(0).tolist()
    for probability, frequency in zip(expected, found):
        # Five standard deviations of a frequency.
        error = 5 * math.sqrt(probability * (1 - probability) / num_images)
        assert abs(frequency - probability) <= error


def test_small_objects_are_drawn_as_often_as_large_ones_at_a_power_of_one():
    # One sample of each image would have no gradient, two are of two masks or of one.
    masks = torch.zeros(20000, 3)
    drawn = drawn_pixels(20000, num_samples=2, sample_temperature=1.0)
    for pixel, mask in enumerate(IDS[:7]):
        masks[:, mask] += drawn[:, pixel]
    # A thing of a pixel cannot be drawn twice: 1/3 + the second draw after another mask's pixel,
    # whose weight, a fourth or a half of a mask's, is gone: 1/3 (1 / 2.75 + 1 / 2.5).
    assert masks[:, 2].mean().item() == pytest.approx(1 / 3 + (1 / 2.75 + 1 / 2.5) / 3, abs=0.018)


def test_the_draw_follows_the_seed_of_torch():
    first, again = (drawn_pixels(50, num_samples=3) for _ in range(2))
    assert torch.equal(first, again)
    assert (first.sum(1) == 3).all() and not torch.equal(first[0], first[1])
