import math

import pytest
import torch

from deeplab2_d2.losses import (
    build_mask_targets,
    instance_discrimination_loss,
    mask_losses,
    match_masks,
    measure_overlaps,
    pixel_contrastive_loss,
    slot_cross_entropy,
)

THINGS, STUFF, VOID = [2], [0, 1], 255


def _random_case(dtype=torch.float64, num_slots=5):
    semantic = torch.tensor([[[0, 0, 2, 2], [1, 1, 2, VOID]]])
    thing_masks = torch.tensor([[[-1, -1, 0, 0], [-1, -1, 1, -1]]])
    targets = build_mask_targets(
        semantic,
        thing_masks,
        torch.tensor([[2, 2, -1]]),
        size=(2, 4),
        thing_ids=THINGS,
        stuff_ids=STUFF,
        ignore_label=VOID,
    )
    torch.manual_seed(0)
    mask_logits = torch.randn(1, num_slots, 8, dtype=dtype, requires_grad=True)
    class_logits = torch.randn(1, num_slots, 4, dtype=dtype, requires_grad=True)
    overlaps = measure_overlaps(mask_logits.float(), targets)
    matching = match_masks(targets, overlaps, class_logits)
    return targets, matching, mask_logits, class_logits


def compute(mask_logits, class_logits, targets, matching):
    overlaps = measure_overlaps(mask_logits, targets)
    return mask_losses(mask_logits, class_logits, targets, matching, overlaps)


def test_slot_cross_entropy_of_labeled_pixels_is_that_of_pytorch():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    slots = torch.randint(3, (2, 4))
    loss = slot_cross_entropy(logits, slots, torch.ones(2, 4, dtype=torch.bool))
    expected = torch.nn.functional.cross_entropy(logits, slots, reduction="none")
    torch.testing.assert_close(loss, expected)


def test_slot_cross_entropy_has_right_gradients():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    slots = torch.randint(3, (2, 4))
    has_mask = torch.ones(2, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: slot_cross_entropy(x, slots, has_mask), (logits,))


def test_pixels_without_a_mask_have_no_loss_and_those_without_a_slot_a_huge_one():
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    has_mask = torch.tensor([[False, True]])
    loss = slot_cross_entropy(logits, torch.tensor([[-1, -1]]), has_mask)
    assert loss[0].tolist() == [0.0, pytest.approx(99999 + math.log(2))]
    loss.sum().backward()
    # TensorFlow's gradient of an element without a label: the softmax itself.
    assert logits.grad[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_gradients_of_mask_losses_are_right():
    targets, matching, mask_logits, class_logits = _random_case()

    def total(mask_logits, class_logits):
        losses = compute(mask_logits, class_logits, targets, matching)
        return losses.class_term, losses.mask_term, losses.mask_id

    assert torch.autograd.gradcheck(total, (mask_logits, class_logits))


def test_perfect_slots_have_hardly_any_loss():
    targets, _, _, _ = _random_case()
    # Slot k is mask k; absent masks leave their slots empty and void.
    mask_logits = 60.0 * targets.one_hot_masks()
    class_logits = torch.zeros(1, 5, 4)
    for slot, channel in enumerate(targets.classes[0].tolist()):
        class_logits[0, slot, channel if channel >= 0 else 3] = 60.0
    matching = match_masks(targets, measure_overlaps(mask_logits, targets), class_logits)
    losses = compute(mask_logits, class_logits, targets, matching)
    exists = targets.exists[0]
    assert matching.slots[0, exists].tolist() == torch.arange(5)[exists].tolist()
    assert losses.class_term.item() == pytest.approx(0.0, abs=1e-6)
    assert losses.mask_id.item() == pytest.approx(0.0, abs=1e-6)
    assert losses.mask_term.item() == pytest.approx(0.0, abs=1e-6)


def test_half_precision_is_computed_in_float32_under_autocast():
    targets, matching, mask_logits, class_logits = _random_case(torch.float32)
    features = torch.nn.functional.normalize(torch.randn(1, 3, 8), dim=1)
    expected = compute(mask_logits, class_logits, targets, matching)
    discrimination = instance_discrimination_loss(features, targets)
    contrast = pixel_contrastive_loss(features, targets, num_samples=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = compute(mask_logits, class_logits, targets, matching)
        again = match_masks(targets, measure_overlaps(mask_logits, targets), class_logits)
        assert torch.equal(instance_discrimination_loss(features, targets), discrimination)
        assert torch.equal(pixel_contrastive_loss(features, targets, num_samples=8), contrast)
    assert torch.equal(again.class_weights, matching.class_weights)
    assert torch.equal(again.mask_weights, matching.mask_weights)
    for name in ("class_term", "mask_term", "mask_id"):
        assert torch.equal(getattr(actual, name), getattr(expected, name))


def test_all_void_image_has_no_mask_loss():
    targets = build_mask_targets(
        torch.full((1, 2, 4), VOID),
        torch.full((1, 2, 4), -1),
        torch.full((1, 3), -1),
        size=(2, 4),
        thing_ids=THINGS,
        stuff_ids=STUFF,
        ignore_label=VOID,
    )
    mask_logits, class_logits = torch.randn(1, 5, 8), torch.randn(1, 5, 4)
    matching = match_masks(targets, measure_overlaps(mask_logits, targets), class_logits)
    losses = compute(mask_logits, class_logits, targets, matching)
    assert losses.mask_term.item() == 0.0
    assert losses.mask_id.item() == 0.0
    assert losses.class_term.item() > 0.0


def test_instance_discrimination_compares_with_the_mean_feature_of_each_mask():
    targets, _, _, _ = _random_case()
    # One-hot features of the masks: similarity 1 with the own mean, 0 with the other three.
    features = targets.one_hot_masks()
    loss = instance_discrimination_loss(features, targets, temperature=0.5)
    expected = math.log(1 + 3 * math.exp(-2.0))
    torch.testing.assert_close(loss, torch.tensor([expected]))


def test_contrastive_loss_of_all_pixels_does_not_depend_on_the_draw():
    targets, _, _, _ = _random_case()
    features = torch.nn.functional.normalize(torch.randn(1, 3, 8), dim=1)
    losses = {pixel_contrastive_loss(features, targets, num_samples=8).item() for _ in range(5)}
    assert len(losses) == 1


def test_contrastive_loss_draws_void_pixels_last():
    targets, _, _, _ = _random_case()
    features = torch.zeros(1, 3, 8, requires_grad=True)
    pixel_contrastive_loss(features, targets, num_samples=7).sum().backward()
    with torch.no_grad():
        features += torch.eye(3).repeat(1, 3)[:, :8][None]
    features.grad = None
    for _ in range(5):
        pixel_contrastive_loss(features, targets, num_samples=7).sum().backward()
    # Pixel 7 is void.
    assert features.grad[0, :, 7].abs().sum() == 0.0
    assert (features.grad[0, :, :7].abs().sum(0) > 0).all()


@pytest.mark.parametrize("num_samples", [0, 9])
def test_number_of_samples_is_checked(num_samples):
    targets, _, _, _ = _random_case()
    with pytest.raises(ValueError, match=rf"num_samples must be in \[1, 8\].*got {num_samples}"):
        pixel_contrastive_loss(torch.zeros(1, 3, 8), targets, num_samples=num_samples)
