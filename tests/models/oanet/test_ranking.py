"""The spatial ranking module, its loss and its scores, worked by hand."""

import math

import pytest
import torch
from torch import nn

from deeplab2_d2.models.oanet import (
    DeepLab2SpatialRankingHead,
    RankingCriterion,
    draw_instances,
    find_conflicts,
    rank_instances,
)


class Biased(nn.Module):
    """Class 1 is on top with the logit ``log 3``, wherever; instances are not looked at."""

    num_classes, stride = 2, 1

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(3.0)))

    def forward(self, drawn):
        return torch.stack([torch.zeros_like(drawn[:, 0]), self.logit + 0 * drawn[:, 1]], dim=1)


class Local(nn.Module):
    """The logit of class 0 is log 3 in the left column, 0 elsewhere; that of class 1 is 0."""

    num_classes, stride = 2, 1

    def forward(self, drawn):
        logits = torch.zeros_like(drawn)
        logits[:, 0, :, 0] = math.log(3.0)
        return logits


def test_instances_are_drawn_on_the_channels_of_their_classes():
    masks = torch.tensor([[[1, 1, 0]], [[0, 1, 0]], [[0, 1, 1]]], dtype=torch.bool)
    drawn = draw_instances(masks, torch.tensor([1, 0, 1]), 3)
    assert drawn.tolist() == [[[0, 1, 0]], [[1, 1, 1]], [[0, 0, 0]]]
    # Of soft masks the larger value.
    soft = torch.tensor([[[0.25, 0.5]], [[0.75, 0.0]]], requires_grad=True)
    drawn = draw_instances(soft, torch.tensor([0, 0]), 1)
    assert drawn.tolist() == [[[0.75, 0.5]]] and not drawn.requires_grad


def test_conflicts_are_of_instances_or_of_classes():
    # Pixels: one instance; two of class 0; two classes; none.
    masks = torch.tensor([[[1, 1, 1, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 0]]], dtype=torch.bool)
    classes = torch.tensor([0, 0, 1])
    assert find_conflicts(masks, classes, "instances").tolist() == [[False, True, True, False]]
    assert find_conflicts(masks, classes, "classes").tolist() == [[False, False, True, False]]
    assert find_conflicts(masks, classes, "all").tolist() == [[True, True, True, False]]


def test_loss_is_the_cross_entropy_of_the_class_on_top_where_instances_conflict():
    # Instances of places 0 and 1 (classes 4 and 7) overlap in the last four pixels. The truth there
    # is class 7, class 4, stuff and unlabeled: two pixels count, with -log 3/4 and -log 1/4.
    masks = torch.tensor([[[1, 1, 1, 1, 1]], [[0, 1, 1, 1, 1]]], dtype=torch.bool)
    truth = torch.tensor([[4, 7, 4, 2, 255]])
    head = Biased()
    criterion = RankingCriterion(thing_ids=(4, 7), weight=2.0)
    pairs = [(masks, torch.tensor([0, 1]))]
    loss = criterion(head, pairs, [truth])
    assert loss.item() == pytest.approx(2.0 * (math.log(4 / 3) + math.log(4)) / 2)
    # An image without a conflict changes nothing; alone it gives 0, with a gradient.
    apart = [(masks & torch.tensor([[[True]], [[False]]]), torch.tensor([0, 1]))]
    both = criterion(head, pairs + apart, [truth, truth])
    assert both.item() == pytest.approx(loss.item())
    none = criterion(head, apart, [truth])
    none.backward()
    assert none.item() == 0 and head.logit.grad.item() == 0


def test_score_is_the_mean_probability_of_the_class_inside_of_the_mask():
    # Class 0 has 3/4 in the left column and 1/2 elsewhere. Eq. 4 as printed would be the mean
    # outside of the mask: 1/2 for the first.
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[0, :, 0], masks[1, 0], masks[2, :, 0] = True, True, True
    scores = rank_instances(masks, torch.tensor([0, 0, 1, 1]), Local(), (2, 3))
    assert scores.tolist() == pytest.approx([3 / 4, (3 / 4 + 1 / 2 + 1 / 2) / 3, 1 / 4, 0.0])


def test_masks_are_brought_to_the_size_that_the_head_was_trained_at():
    # At stride 4 an input of 8x12 is 2x3 cells; masks of 4x6 (a smaller image) cover 2x2 of them.
    seen = []

    class Watcher(Local):
        stride = 4

        def forward(self, drawn):
            seen.append(drawn)
            return super().forward(drawn)

    masks = torch.zeros(1, 4, 6, dtype=torch.bool)
    masks[0, :2, :3] = True
    scores = rank_instances(masks, torch.tensor([0]), Watcher(), (8, 12))
    # The first cell is full, half of the second is covered.
    assert seen[0][0, 0].tolist() == [[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
    # (1 x 3/4 + 1/2 x 1/2) / (1 + 1/2).
    assert scores.tolist() == pytest.approx([2 / 3])


def test_kernels_reach_as_far_as_their_layout_says():
    # An impulse in the middle: a cross of two 1x7 convolutions is a whole 7x7 in either layout.
    drawn = torch.zeros(1, 3, 15, 15)
    drawn[0, 1, 7, 7] = 1
    reach = {}
    for layout, size in (("square", 1), ("square", 3), ("sequence", 7), ("branches", 7)):
        torch.manual_seed(0)
        head = DeepLab2SpatialRankingHead(num_classes=3, kernel_size=size, layout=layout)
        with torch.no_grad():
            changed = (head(drawn) - head(torch.zeros_like(drawn))).abs().sum(dim=(0, 1)) > 1e-6
        reach[layout, size] = (int(changed.sum()), sum(p.numel() for p in head.parameters()))
    # Kernels are 3 x 3 channels; biases 3 each.
    assert reach["square", 1] == (1, 9 + 3)
    assert reach["square", 3] == (9, 81 + 3)
    assert reach["sequence", 7] == (49, 2 * (63 + 3))
    assert reach["branches", 7] == (49, 4 * (63 + 3))


def test_it_learns_that_one_class_lies_on_the_other():
    # Ties (place 1) lie on persons (place 0) wherever they are.
    torch.manual_seed(0)
    head = DeepLab2SpatialRankingHead(num_classes=2, kernel_size=3, layout="square")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    criterion = RankingCriterion(thing_ids=(0, 1))
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[0, 2:10, 2:10] = masks[1, 4:7, 5:8] = True
    truth = torch.full((12, 12), 5)
    truth[masks[0]] = 0
    truth[masks[1]] = 1
    classes = torch.tensor([0, 1])
    for _ in range(30):
        optimizer.zero_grad()
        criterion(head, [(masks, classes)], [truth]).backward()
        optimizer.step()
    # At another place, in another order.
    person, tie = rank_instances(masks.roll((1, 2), (1, 2)), classes, head, (12, 12)).tolist()
    assert tie > person


def test_no_instance_gives_no_score_and_wrong_input_is_refused():
    nothing = torch.zeros(0, 4, 4, dtype=torch.bool)
    assert rank_instances(nothing, torch.zeros(0).long(), Local(), (4, 4)).tolist() == []
    one = torch.ones(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="places among 2 things, got 2"):
        rank_instances(one, torch.tensor([2]), Local(), (4, 4))
    with pytest.raises(ValueError, match=r"masks must be \(N, H, W\)"):
        rank_instances(one[0], torch.tensor([1]), Local(), (4, 4))
    with pytest.raises(ValueError, match="kernel_size odd, got 'square' and 4"):
        DeepLab2SpatialRankingHead(num_classes=2, kernel_size=4, layout="square")
