"""Masks pasted by the graph of exported files, against the operator."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from deeplab2_d2.postprocessing import (
    Frames,
    SlotOptions,
    graph_panoptic_from_mask_slots,
    panoptic_from_mask_slots,
)

THINGS = (1, 3)
OPTIONS = {
    "mode": "maskwise",
    "mask_confidence_threshold": 0.4,
    "thing_class_threshold": 0.3,
    "stuff_class_threshold": 0.2,
    "overlap_threshold": 0.6,
    "thing_area_limit": 12,
    "stuff_area_limit": 40,
}


def maps(num_slots: int, seed: int, stride: int = 4) -> Any:
    """Masks that overlap: blobs of several sizes, of which two are often as strong."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, num_slots, 4, 5, generator=generator) * 6.0
    masks = F.interpolate(coarse, (12, 17), mode="bicubic")
    classes = torch.randn(2, num_slots, 6, generator=generator) * 2.0
    size = (11 * stride + 1 - 3, 16 * stride + 1 - stride)
    return masks, classes, stride, size


def both(inputs: Any, **changes: Any) -> Any:
    masks, classes, stride, size = inputs
    options = SlotOptions(**{**OPTIONS, **changes})
    given = {"thing_ids": THINGS, "label_divisor": 1000, "options": options}
    found = graph_panoptic_from_mask_slots(masks, classes, stride, size, **given)
    whole = tuple((side - 1) * stride + 1 for side in masks.shape[2:])
    expected = panoptic_from_mask_slots(masks, classes, Frames(whole, size, size), **given)
    return found, expected


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, 1.0), (0.0, 2.0), (0.0, 0.0)], ids=str)
@pytest.mark.parametrize("num_slots", [1, 5, 16, 37])
def test_the_graph_pastes_as_the_operator(num_slots: int, weights: Any) -> None:
    kinds = set()
    for seed in range(6):
        inputs = maps(num_slots, seed, stride=(1, 2, 4)[seed % 3])
        found, expected = both(inputs, class_weight=weights[0], mask_weight=weights[1])
        assert torch.equal(found["panoptic_map"], expected.panoptic_map)
        assert torch.equal(found["semantic_map"], expected.semantic_map)
        kinds.update(found["panoptic_map"].unique().tolist())
    assert len(kinds) > min(num_slots, 8), "labels that prove something"


def test_a_mask_that_is_covered_is_left_out_and_what_it_would_have_covered_stays_free() -> None:
    # In a row of 12 pixels, slots 0, 1, 2 in the order of their classes: 1 shares 4 of its 6 pixels
    # with 0 and is left out, so 2 keeps the two that it shares with 1.
    masks = torch.full((1, 3, 1, 12), -20.0)
    masks[0, 0, 0, 0:6] = 0.0
    masks[0, 1, 0, 2:8] = 0.0
    masks[0, 2, 0, 6:11] = 0.0
    masks[0, :, 0, 11] = torch.tensor([0.0, -0.1, -0.2])
    classes = torch.tensor([[[9.0, 0, 0], [0, 8.0, 0], [7.0, 0, 0]]])
    options = SlotOptions(mode="maskwise", overlap_threshold=0.5, mask_confidence_threshold=0.4)
    found = graph_panoptic_from_mask_slots(
        masks, classes, 1, (1, 12), thing_ids=(0, 1), label_divisor=10, options=options
    )
    assert found["panoptic_map"][0, 0].tolist() == [1] * 6 + [3] * 5 + [-1]


def test_a_pixel_in_three_masks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0.334 to paste masks, got 0.3"):
        both(maps(5, 0), mask_confidence_threshold=0.3)
