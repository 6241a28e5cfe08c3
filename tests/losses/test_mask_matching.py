import pytest
import torch
from plain_forms import match_probabilities

from deeplab2_d2.losses import build_mask_targets

# Two pixels of stuff 0, two of stuff 1 (channels 0 and 1 of the class head), one void.
SEMANTIC = [0, 0, 1, 1, 255]


def _targets():
    return build_mask_targets(
        torch.tensor([[SEMANTIC]]),
        torch.full((1, 1, 5), -1),
        torch.full((1, 0), -1),
        size=(1, 5),
        thing_ids=[],
        stuff_ids=[0, 1],
        ignore_label=255,
    )


def _class_logits(*probabilities):
    return torch.tensor([list(probabilities)]).log()


def test_slots_go_to_the_masks_of_largest_dice_times_class_probability():
    # Slot 0 covers mask 1 exactly, slot 1 mask 0, slot 2 the void pixel.
    masks = torch.tensor([[[0.0, 0, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]]])
    logits = _class_logits([0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4])
    matching = match_probabilities(_targets(), masks, logits)
    assert matching.slots.tolist() == [[1, 0]]
    torch.testing.assert_close(matching.mask_weights, torch.tensor([[0.6, 0.8]]))
    # Dice 1 of the matched; the part on void of the other.
    expected = torch.tensor([[1.0, 1.0, 1.0]])
    torch.testing.assert_close(matching.class_weights, expected, rtol=2e-5, atol=0.0)
    assert matching.class_labels.tolist() == [[[0, 1, 0], [1, 0, 0], [0, 0, 1]]]


def test_class_probability_decides_between_equal_masks():
    masks = torch.full((1, 2, 5), 0.5)
    matching = match_probabilities(
        _targets(), masks, _class_logits([0.2, 0.7, 0.1], [0.7, 0.2, 0.1])
    )
    assert matching.slots.tolist() == [[1, 0]]


def test_unmatched_slot_off_the_void_has_the_least_weight():
    masks = torch.tensor([[[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]])
    logits = _class_logits([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4])
    matching = match_probabilities(_targets(), masks, logits)
    assert matching.class_weights[0, 2].item() == pytest.approx(1e-5)


def test_the_papers_unmatched_slot_weighs_as_much_as_a_perfect_match():
    masks = torch.tensor([[[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]])
    logits = _class_logits([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4])
    matching = match_probabilities(_targets(), masks, logits, unmatched_weight="one")
    # Two pixels, and 1e-5 for empty masks, make a dice of a little less than 1.
    torch.testing.assert_close(matching.class_weights, torch.ones(1, 3), rtol=2e-5, atol=0.0)
    assert matching.class_weights[0, 2].item() == 1.0


def test_masks_without_a_slot_lose_to_those_of_larger_similarity():
    masks = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 0.0]]])
    matching = match_probabilities(_targets(), masks, _class_logits([0.1, 0.8, 0.1]))
    assert matching.slots.tolist() == [[-1, 0]]
    # It exists, so that its dice term counts, with the least weight.
    torch.testing.assert_close(matching.mask_weights, torch.tensor([[1e-5, 0.8]]))


def test_sum_similarity_has_constant_weights():
    masks = torch.tensor([[[0.0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]])
    logits = _class_logits([0.1, 0.8, 0.1], [0.6, 0.2, 0.2])
    matching = match_probabilities(_targets(), masks, logits, similarity="sum")
    assert matching.mask_weights.tolist() == [[1.0, 1.0]]
    assert matching.class_weights.tolist() == [[1.0, 1.0]]


def test_sum_and_product_may_prefer_different_matches():
    # Slot 0 covers mask 0 exactly, slot 1 half of mask 0: dice 1 and 2/3 with mask 0, 0 with mask
    # 1. Classes: slot 0 is mask 1's with 0.9, slot 1 mask 0's with 0.1.
    masks = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]]])
    logits = _class_logits([0.09, 0.9, 0.01], [0.1, 0.3, 0.6])
    # Product: 0.09 * 1 + 0 against 0.1 * 2/3 + 0: mask 0 takes slot 0.
    assert match_probabilities(_targets(), masks, logits).slots.tolist() == [[0, 1]]
    # Sum: (0.09 + 1) + (0.3 + 0) = 1.39 against (0.1 + 2/3) + (0.9 + 0) = 1.67: it takes slot 1.
    assert match_probabilities(_targets(), masks, logits, similarity="sum").slots.tolist() == [
        [1, 0]
    ]


def test_unknown_rules_and_costs_that_are_not_finite_are_refused():
    masks = torch.full((1, 2, 5), 0.5)
    logits = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="similarity must be one of"):
        match_probabilities(_targets(), masks, logits, similarity="difference")
    with pytest.raises(ValueError, match="unmatched_weight must be one of .*'zero'"):
        match_probabilities(_targets(), masks, logits, unmatched_weight="zero")
    with pytest.raises(ValueError, match="matching costs must be finite"):
        match_probabilities(_targets(), masks * float("nan"), logits)
