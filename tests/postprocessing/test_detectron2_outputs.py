"""Panoptic labels in Detectron2's forms."""

import pytest
import torch

from deeplab2_d2.postprocessing import (
    Frames,
    panoptic_from_centers,
    to_instances,
    to_panoptic_seg,
)


def segment(label_divisor=10, num_instances=1):
    """A row of stuff (class 0) and below it ``num_instances`` things (class 1) of two pixels."""
    width = 2 * num_instances
    logits = torch.zeros(1, 2, 2, width)
    logits[0, 0, 0], logits[0, 1, 1] = 5.0, 5.0
    heatmap = torch.zeros(1, 1, 2, width)
    heatmap[0, 0, 1, ::2] = 0.5
    return panoptic_from_centers(
        logits, heatmap, torch.zeros(1, 2, 2, width), Frames.unpadded((2, width)),
        thing_ids=[1], label_divisor=label_divisor,
        stuff_area_limit=0, nms_kernel=1,
    )  # fmt: skip


def test_ids_of_the_map_are_panoptic_labels_plus_one():
    panoptic_map, segments = to_panoptic_seg(segment(), 0, label_divisor=10)
    assert panoptic_map.tolist() == [[1, 1], [12, 12]]
    stuff, thing = segments
    assert (stuff["id"], stuff["category_id"], stuff["isthing"], stuff["area"]) == (1, 0, False, 2)
    assert (thing["id"], thing["category_id"], thing["isthing"]) == (12, 1, True)
    # Objectness 0.5 times the softmax of 5 against 0.
    probability = torch.tensor(5.0).sigmoid().item()
    assert thing["score"] == pytest.approx(0.5 * probability, abs=1e-6)


def test_instances_have_masks_boxes_classes_and_scores():
    instances = to_instances(*to_panoptic_seg(segment(num_instances=2), 0, label_divisor=10))
    assert instances.pred_classes.tolist() == [1, 1]
    assert sorted(instances.pred_boxes.tensor.tolist()) == [[0, 1, 2, 2], [2, 1, 4, 2]]
    assert instances.pred_masks.sum(dim=(1, 2)).tolist() == [2, 2]


def test_more_instances_than_the_divisor_holds_are_named():
    with pytest.raises(ValueError, match="class 1 .*2.* divisor 2"):
        to_panoptic_seg(segment(label_divisor=2, num_instances=2), 0, label_divisor=2)


def test_a_heatmap_above_1_gives_no_score_above_1():
    result = segment()
    # Learnt by regression; the mean probability of the class stays as it is.
    result.segments.objectness[0, 0] = 1.5
    _, thing = to_panoptic_seg(result, 0, label_divisor=10)[1]
    assert thing["score"] == pytest.approx(torch.tensor(5.0).sigmoid().item(), abs=1e-6)
