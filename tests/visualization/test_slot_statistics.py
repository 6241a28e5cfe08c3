import numpy as np
import pytest
import torch

from deeplab2_d2.visualization.slots import SlotSegment, SlotStatistics, slot_segments


def test_a_slot_has_the_pixels_that_the_final_map_left_it():
    # Slot 2 lost one of its pixels to a threshold, slot 5 all of them; one pixel has no slot.
    slot_map = torch.tensor([[2, 2, 0, 0], [2, 5, 0, -1]], dtype=torch.int32)
    class_map = torch.tensor([[1, 1, 4, 4], [-1, -1, 4, -1]], dtype=torch.int32)
    assert slot_segments(slot_map, class_map) == [SlotSegment(0, 4, 3), SlotSegment(2, 1, 2)]


def test_equal_areas_are_in_the_order_of_the_slots():
    segments = slot_segments(np.array([[7, 3, 5]]), np.array([[0, 2, 0]]))
    assert [segment.slot for segment in segments] == [3, 5, 7]


def test_a_map_of_void_has_no_segments():
    assert slot_segments(np.zeros((2, 2), int), np.full((2, 2), -1)) == []


def three_images():
    """
    Three slots, two classes; masks of one row with two pixels.

    Slot 0 never fires. Slot 1 fires as class 0 and as class 1; slot 2 three times as class 1.
    """
    statistics = SlotStatistics(3, 2)
    statistics.add(
        [SlotSegment(1, 0, 9), SlotSegment(2, 1, 4)],
        torch.tensor([[[0.0, 0.25]], [[0.75, 0.25]], [[0.25, 0.5]]]),
    )
    statistics.add([SlotSegment(2, 1, 2)], torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]], [[0.0, 0.0]]]))
    statistics.add(
        [SlotSegment(2, 1, 5), SlotSegment(1, 1, 1)],
        torch.tensor([[[0.0, 0.0]], [[0.25, 0.75]], [[0.75, 0.25]]]),
    )
    return statistics


def test_the_joint_distribution_counts_images():
    statistics = three_images()
    assert statistics.num_images == 3
    assert statistics.firings.tolist() == [[0, 0], [1, 1], [0, 3]]
    assert statistics.totals.tolist() == [0, 2, 3]
    assert statistics.firing_slots() == [2, 1]


def test_a_slot_is_described_by_its_commonest_classes():
    statistics = SlotStatistics(1, 4)
    for class_id in (3, 1, 3, 0, 1, 3):
        statistics.add([SlotSegment(0, class_id, 1)], np.ones((1, 1, 1)))
    # Ties in the order of the classes; what never happened is not named.
    assert statistics.top_classes(0, 2) == [(3, 3), (1, 2)]
    assert statistics.top_classes(0, 9) == [(3, 3), (1, 2), (0, 1)]


def test_the_average_mask_is_over_the_images_in_which_the_slot_fired():
    statistics = three_images()
    # Slot 1 without the second image: (0.75 + 0.25) / 2 and (0.25 + 0.75) / 2.
    assert statistics.average_mask(1).tolist() == [[0.5, 0.5]]
    # Slot 2 in all three: (0.25 + 0 + 0.75) / 3 and (0.5 + 0 + 0.25) / 3.
    assert statistics.average_mask(2) == pytest.approx(np.array([[1 / 3, 0.25]]))
    with pytest.raises(ValueError, match="slot must have fired .* got 0"):
        statistics.average_mask(0)


def test_masks_of_another_size_are_refused():
    statistics = three_images()
    with pytest.raises(ValueError, match=r"masks must be \(3, 1, 2\), .* got \(3, 2, 2\)"):
        statistics.add([], np.zeros((3, 2, 2)))
    assert statistics.num_images == 3
