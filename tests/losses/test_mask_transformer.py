"""The whole loss of MaX-DeepLab: its terms, its metrics, and images without masks."""

import pytest
import torch
from max_loss_inputs import VOID, make_targets, random_outputs, random_targets

from deeplab2_d2.losses import (
    MaskOutputs,
    MaskTransformerLossOptions,
    build_mask_targets,
    limit_masks,
    mask_losses,
    mask_matching,
    mask_transformer,
    mask_transformer_losses,
    match_masks,
    matching_metrics,
    measure_overlaps,
    recognition_metric,
)

PQ = {"loss_pq_class", "loss_pq_mask"}
INSTANCE, MASK_ID, SEMANTIC = "loss_instance_discrimination", "loss_mask_id", "loss_semantic"
MATCHING_METRICS = {"matched_class_confidence", "matched_mask_dice", "mask_id_accuracy"}
# Rows of the paper's Table 6: which of the three auxiliary losses there are.
TABLE_6 = [
    (1.0, 0.3, 1.0, PQ | {INSTANCE, MASK_ID, SEMANTIC}),
    (1.0, 0.3, 0.0, PQ | {INSTANCE, MASK_ID}),
    (0.0, 0.3, 0.0, PQ | {MASK_ID}),
    (1.0, 0.0, 0.0, PQ | {INSTANCE}),
    (0.0, 0.0, 0.0, PQ),
]


def compute(targets, options=MaskTransformerLossOptions(), num_slots=6, **arguments):
    outputs = random_outputs(targets, num_slots, torch.float32)
    size = (len(outputs[0]), 4, 1, outputs[0].shape[2])
    semantic_logits = torch.zeros(size, requires_grad=True)
    labels = torch.where(targets.is_labeled, 1, VOID)[:, None]
    losses, metrics = mask_transformer_losses(
        [MaskOutputs(*outputs)],
        targets,
        options,
        semantic_logits=semantic_logits,
        semantic_labels=labels,
        ignore_label=VOID,
        **arguments,
    )
    inputs = [*outputs, semantic_logits]
    if not losses:
        return losses, metrics, None
    total = torch.stack(list(losses.values())).sum()
    return losses, metrics, torch.autograd.grad(total, inputs, allow_unused=True)


@pytest.mark.parametrize("instance, mask_id, semantic, expected", TABLE_6)
def test_losses_without_a_weight_are_not_there(instance, mask_id, semantic, expected):
    options = MaskTransformerLossOptions(
        instance_discrimination_weight=instance, mask_id_weight=mask_id, semantic_weight=semantic
    )
    losses, metrics, _ = compute(random_targets(), options)
    assert set(losses) == expected
    accuracy = {"instance_discrimination_accuracy"} if instance else set()
    assert set(metrics) == MATCHING_METRICS | accuracy
    # Those that are there do not depend on the others.
    everything, _, _ = compute(random_targets())
    assert all(torch.equal(loss, everything[name]) for name, loss in losses.items())


def test_losses_without_a_weight_are_not_computed(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("computed")

    for name in ("measure_overlaps", "mask_losses", "discriminate_instances", "topk_cross_entropy"):
        monkeypatch.setattr(mask_transformer, name, refuse)
    options = MaskTransformerLossOptions(
        pq_style_weight=0.0,
        mask_id_weight=0.0,
        instance_discrimination_weight=0.0,
        semantic_weight=0.0,
    )
    assert compute(random_targets(), options)[:2] == ({}, {})


def test_weights_multiply_the_losses():
    ones = MaskTransformerLossOptions(pq_style_weight=1.0, mask_id_weight=1.0)
    losses, _, _ = compute(random_targets(), ones)
    twice = MaskTransformerLossOptions(
        pq_style_weight=2.0,
        mask_id_weight=2.0,
        instance_discrimination_weight=2.0,
        semantic_weight=2.0,
    )
    for name, loss in compute(random_targets(), twice)[0].items():
        torch.testing.assert_close(loss, 2 * losses[name])


@pytest.mark.parametrize("num_samples", [0, 9])
@pytest.mark.parametrize("num_things", [0, 2])
def test_all_void_images_have_only_a_class_loss(num_samples, num_things):
    semantic = torch.full((2, 3, 5), VOID)
    classes = torch.full((2, num_things), -1)
    targets = make_targets(semantic, torch.full_like(semantic, -1), classes)
    options = MaskTransformerLossOptions(num_samples=num_samples)
    losses, metrics, gradients = compute(targets, options)
    # All slots are to be void, each with the part of its mask on void as its weight: all of it.
    assert (losses.pop("loss_pq_class") > 0).all()
    for name, loss in losses.items():
        assert loss.tolist() == [0.0, 0.0], name
    assert all(value == 0.0 for value in metrics.values())
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert gradients[1].abs().sum() > 0


@pytest.mark.parametrize("num_things", [0, 3])
def test_images_without_things_have_no_discrimination_loss(num_things):
    semantic = torch.tensor([[[0, 0, 1, 1, VOID]]])
    classes = torch.full((1, num_things), -1)
    targets = make_targets(semantic, torch.full_like(semantic, -1), classes)
    losses, metrics, gradients = compute(targets)
    assert losses[INSTANCE].item() == 0.0
    assert metrics["instance_discrimination_accuracy"] == 0.0
    assert gradients[2].abs().sum() == 0.0
    assert all(losses[name].item() > 0 for name in PQ | {MASK_ID})
    assert metrics["matched_mask_dice"] > 0


@pytest.mark.parametrize("num_samples", [0, 9])
def test_a_batch_without_images_has_no_losses_and_empty_gradients(num_samples):
    semantic = torch.zeros(0, 4, 9, dtype=torch.long)
    targets = make_targets(semantic, semantic, torch.zeros(0, 3, dtype=torch.long))
    losses, metrics, gradients = compute(
        targets, MaskTransformerLossOptions(num_samples=num_samples)
    )
    assert all(loss.shape == (0,) for loss in losses.values()) and len(losses) == 5
    assert all(value == 0.0 for value in metrics.values())
    assert all(gradient.numel() == 0 for gradient in gradients)


def test_a_dataset_without_stuff_and_a_batch_without_things_have_no_masks():
    semantic = torch.tensor([[[2, 3, VOID]]])
    targets = build_mask_targets(
        semantic,
        torch.full_like(semantic, -1),
        torch.zeros(1, 0, dtype=torch.long),
        size=(1, 3),
        thing_ids=[2, 3],
        stuff_ids=[],
        ignore_label=VOID,
    )
    assert targets.classes.tolist() == [[-1]] and not targets.is_thing.any()
    losses, _, gradients = compute(targets)
    assert losses["loss_pq_mask"].item() == losses[MASK_ID].item() == 0.0
    assert losses[INSTANCE].item() == 0.0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_logits_that_are_nan_are_refused_by_name():
    targets = random_targets()
    outputs = random_outputs(targets, dtype=torch.float32)
    with torch.no_grad():
        outputs[0][1, 2, 7] = float("nan")
    with pytest.raises(ValueError, match="matching costs must be finite.*image 1"):
        mask_transformer_losses([MaskOutputs(*outputs)], targets, MaskTransformerLossOptions())


def test_a_solver_without_a_result_leaves_masks_without_a_slot_and_the_loss_nan(monkeypatch):
    # As on a GPU, where the operator cannot raise an error.
    targets = random_targets(num_images=1)
    logits, class_logits, _ = random_outputs(targets, dtype=torch.float32)

    def solve_nothing(costs, has_row):
        return torch.full(costs.shape[:2], -2)

    monkeypatch.setattr(mask_matching, "linear_assignment", solve_nothing)
    matching = match_masks(targets, measure_overlaps(logits, targets), class_logits)
    assert (matching.slots == -1).all()
    with torch.no_grad():
        logits[0, 2, 7] = float("nan")
    overlaps = measure_overlaps(logits, targets)
    losses = mask_losses(logits, class_logits, targets, matching, overlaps)
    assert losses.mask_id.isnan().all()


def test_metrics_of_a_worked_example():
    # Pixels: thing 0 (class 2) twice, stuff 0 twice, void. Channels: 2, 3, 0, 1, void.
    targets = make_targets(
        torch.tensor([[[2, 2, 0, 0, VOID]]]),
        torch.tensor([[[0, 0, -1, -1, -1]]]),
        torch.tensor([[2]]),
    )
    # Slot 0 has pixels 0, 2 and 4, slot 1 pixels 1 and 3, slot 2 none.
    probabilities = torch.tensor([[[0.8, 0.1, 0.6, 0.1, 0.9], [0.1, 0.8, 0.3, 0.8, 0.05]]])
    probabilities = torch.cat([probabilities, 1 - probabilities.sum(1, keepdim=True)], dim=1)
    class_probabilities = torch.tensor([[[0.1, 0.1, 0.6, 0.1, 0.1], [0.5, 0.1, 0.2, 0.1, 0.1]]])
    class_probabilities = torch.cat([class_probabilities, torch.full((1, 1, 5), 0.2)], dim=1)
    overlaps = measure_overlaps(probabilities.log(), targets)
    matching = match_masks(targets, overlaps, class_probabilities.log())
    # The thing goes to slot 1 (0.5), stuff to slot 0 (0.6).
    assert matching.slots[0].tolist() == [1, 0, -1]
    metrics = matching_metrics(
        targets, matching, mask_logits=probabilities.log(), overlaps=overlaps
    )
    # Dice: the thing's area 2, slot 1's 2 on labeled pixels, common 0.9; stuff 2, 1.6 and 0.7.
    dice = (0.9 / 2 + 0.7 / 1.8) / 2
    assert metrics["matched_class_confidence"].item() == pytest.approx(0.55)
    assert metrics["matched_mask_dice"].item() == pytest.approx(dice, rel=1e-4)
    # Right: pixel 1 is slot 1's, pixel 2 slot 0's; the void pixel does not count.
    assert metrics["mask_id_accuracy"].item() == 0.5
    # Of the things' two pixels one is recognised.
    found = recognition_metric(targets, torch.tensor([[True, False, False, False, False]]))
    assert found["instance_discrimination_accuracy"].item() == 0.5


def test_pixels_are_recognised_by_the_nearest_mean_feature():
    # Two things, of the directions (1, 0) and (0, 1) on average; the last pixel of the second has
    # a feature of the first.
    semantic, things = torch.full((1, 1, 6), 2), torch.tensor([[[0, 0, 1, 1, 1, 1]]])
    targets = make_targets(semantic, things, torch.tensor([[2, 2]]))
    features = torch.tensor([[[1.0, 1.0, 0, 0, 0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]]])
    logits, class_logits, _ = random_outputs(targets, dtype=torch.float32)
    outputs = [MaskOutputs(logits, class_logits, features)]
    _, metrics = mask_transformer_losses(outputs, targets, MaskTransformerLossOptions())
    assert metrics["instance_discrimination_accuracy"].item() == pytest.approx(5 / 6)


def _crowded_targets():
    # Image 0 has two masks, of 5 and 1 pixels; image 1 four, of 2, 1, 1 and 2.
    semantic = torch.tensor([[[0, 0, 0, 0, 0, 1]], [[2, 2, 3, 0, 1, 1]]])
    things = torch.tensor([[[-1] * 6], [[0, 0, 1, -1, -1, -1]]])
    return make_targets(semantic, things, torch.tensor([[-1, -1], [2, 3]]))


def test_surplus_masks_may_be_refused_with_the_image():
    targets = _crowded_targets()
    with pytest.raises(ValueError, match="image 1 of the batch has 4 masks, more than the 3 slots"):
        limit_masks(targets, 3, surplus="error")
    # G is more than 3, but no image has more.
    first = make_targets(torch.zeros(1, 1, 6).long(), torch.full((1, 1, 6), -1), -torch.ones(1, 9))
    assert limit_masks(first, 3, surplus="error") is first
    options = MaskTransformerLossOptions(surplus_masks="error")
    with pytest.raises(ValueError, match=r"image 1 of the batch \(b.png\) has 4 masks"):
        compute(targets, options, num_slots=3, sources=["a.png", "b.png"])
    with pytest.raises(ValueError, match="surplus must be one of"):
        limit_masks(targets, 3, surplus="smallest")


def test_the_largest_masks_may_be_kept():
    targets = limit_masks(_crowded_targets(), 3, surplus="largest")
    # Of the two masks of one pixel the first is kept, thing 1; stuff 0 becomes void.
    assert targets.classes.tolist() == [[-1, -1, 2, 3], [0, 1, -1, 3]]
    assert targets.mask_ids[1].tolist() == [0, 0, 1, -1, 3, 3]
    assert targets.areas[1].tolist() == [2.0, 1.0, 0.0, 2.0]
    assert targets.is_labeled[1].tolist() == [True, True, True, False, True, True]
    assert targets.is_thing[1].tolist() == [True, True, True, False, False, False]
    assert targets.is_labeled[0].all()
    assert limit_masks(_crowded_targets(), 2, surplus="largest").areas[1].tolist() == [2, 0, 0, 2]


def test_surplus_masks_are_left_without_a_slot_by_default():
    targets = _crowded_targets()
    assert limit_masks(targets, 3) is targets
    outputs = random_outputs(targets, 3, torch.float32)
    matching = match_masks(targets, measure_overlaps(outputs[0], targets), outputs[1])
    assert (matching.slots >= 0).sum(1).tolist() == [2, 3]
    losses, _, gradients = compute(targets, num_slots=3)
    # As DeepLab2 has it, the pixels of a mask without a slot have a logit of -99999.
    assert losses[MASK_ID][1] > 1000
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_auxiliary_outputs_have_the_final_matching_or_their_own():
    targets = random_targets()
    final = MaskOutputs(*random_outputs(targets, dtype=torch.float32))
    # The same masks in other slots.
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    other = MaskOutputs(final[0][:, order], final[1][:, order], final[2])
    alone, metrics = mask_transformer_losses([final], targets, MaskTransformerLossOptions())
    for is_own in (False, True):
        options = MaskTransformerLossOptions(match_auxiliary=is_own)
        losses, found = mask_transformer_losses([final, final, other], targets, options)
        assert set(losses) == {n + s for n in alone for s in ("", "_aux0", "_aux1")}
        for name, loss in alone.items():
            assert torch.equal(losses[name], loss) and torch.equal(losses[name + "_aux0"], loss)
        # By itself another order of the slots is as good.
        close = torch.allclose(losses["loss_mask_id_aux1"], alone["loss_mask_id"], rtol=1e-5)
        assert close is is_own
        assert all(torch.equal(found[name], value) for name, value in metrics.items())
