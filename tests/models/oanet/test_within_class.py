"""Instances of one class that overlap are ordered by detection score, others by rank."""

import torch
from tiny_oanet import make_config, make_model, make_sample

from deeplab2_d2.models.oanet import order_within_classes, rank_image
from deeplab2_d2.models.oanet.within_class import find_groups


def row_of_masks(*spans):
    masks = torch.zeros(len(spans), 1, 12, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, spans):
        mask[0, start:stop] = True
    return masks


def test_a_group_keeps_its_ranks_and_hands_them_out_by_detection_score():
    # 0, 1 and 2 overlap in a chain; 3 is of their class and touches none; 4 overlaps 1 as another.
    masks = row_of_masks((0, 4), (3, 7), (6, 9), (9, 12), (4, 6))
    classes = torch.tensor([5, 5, 5, 5, 2])
    assert find_groups(masks, classes) == [[0, 1, 2]]
    ranks = torch.tensor([0.9, 0.1, 0.5, 0.7, 0.3])
    scores = torch.tensor([0.6, 0.9, 0.8, 0.5, 1.0])
    ordered = order_within_classes(ranks, scores, masks, classes)
    assert ordered.tolist() == torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3]).tolist()
    assert ranks.tolist() == torch.tensor([0.9, 0.1, 0.5, 0.7, 0.3]).tolist()


def test_equal_detection_scores_go_to_the_first_and_nothing_is_no_group():
    masks = row_of_masks((0, 4), (3, 7), (0, 0))
    ranks, classes = torch.tensor([0.2, 0.4, 0.0]), torch.zeros(3, dtype=torch.int64)
    ordered = order_within_classes(ranks, torch.full((3,), 0.5), masks, classes)
    assert ordered.tolist() == ranks[[1, 0, 2]].tolist()
    none = torch.zeros(0)
    assert len(order_within_classes(none, none, row_of_masks(), none.long())) == 0


def test_the_network_ranks_that_way_only_if_the_config_says_so():
    found = []
    for value in (False, True):
        cfg = make_config(ranking_detection_within_class=value)
        cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.0
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        image = rank_image(make_model(cfg).eval(), make_sample())
        found.append(image)
    (paper, ours), instances = found, found[0].instances
    expected = order_within_classes(
        paper.rank_scores, instances.scores, instances.pred_masks, instances.pred_classes
    )
    assert torch.equal(ours.rank_scores, expected)
    assert not torch.equal(paper.rank_scores, expected)
