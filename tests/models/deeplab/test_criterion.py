"""The losses of DeepLab v1 to v3+, worked out by hand."""

import math
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from torch import Tensor

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.models.deeplab import SemanticCriterion
from deeplab2_d2.models.deeplab.config import check_config
from deeplab2_d2.models.deeplab.inference import SemanticInference
from deeplab2_d2.models.image_batch import ImageBatch
from deeplab2_d2.structures import identity_class_map


def loss(logits: Tensor, labels: Tensor, **options: Any) -> float:
    criterion = SemanticCriterion(255, identity_class_map(2), **options)
    losses, _ = criterion([{"semantic_logits": logits}], {"sem_seg": labels})
    return losses["loss_semantic"].item()


def cost(margin: float) -> float:
    """Cross-entropy of a pixel whose right class is ahead by ``margin`` of the one other."""
    return math.log1p(math.exp(-margin))


def test_v3_enlarges_the_scores_to_the_labels() -> None:
    # Class 0 is ahead by 0 on the left and by 2 on the right, so by 1 halfway.
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]]).expand(1, 2, 2, 2)
    labels = torch.tensor([[[0, 0, 0], [255, 255, 255], [255, 255, 0]]])
    expected = (cost(0) + cost(1) + 2 * cost(2)) / 4
    assert loss(logits, labels) == pytest.approx(expected)
    assert loss(logits, labels, weight=3.0) == pytest.approx(3 * expected)


def test_v1_and_v2_shrink_the_labels_to_the_scores() -> None:
    # Scores 2 x 2 at stride 8: of 9 x 9 labels the corners count.
    logits = torch.tensor([[[[0.0, 2.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]])
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 8, 0], labels[0, 8, 8] = 255, 1
    expected = (cost(0) + cost(2) + cost(1)) / 3
    assert loss(logits, labels, shrinks_labels=True) == pytest.approx(expected)


def test_scores_that_are_not_centered_on_labels_are_refused() -> None:
    labels = torch.zeros(1, 10, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"got \(10, 9\) for scores of \(3, 2\)"):
        loss(torch.zeros(1, 2, 3, 2), labels, shrinks_labels=True)


def test_the_mean_is_over_the_labelled_pixels_of_the_whole_batch() -> None:
    # One labelled pixel in the first image, three in the second.
    margins = torch.tensor([[[0.0, 0.0]], [[2.0, 2.0]]]).view(2, 1, 1, 2)
    logits = torch.cat([margins, torch.zeros_like(margins)], dim=1)
    labels = torch.tensor([[[0, 255]], [[0, 0]]])
    assert loss(logits, labels) == pytest.approx((cost(0) + 2 * cost(2)) / 3)


def test_the_hardest_pixels_are_those_of_the_batch_not_of_each_image() -> None:
    # Half of four pixels: both of the first image.
    margins = torch.tensor([[[-1.0, 0.0]], [[2.0, 3.0]]]).view(2, 1, 1, 2)
    logits = torch.cat([margins, torch.zeros_like(margins)], dim=1)
    labels = torch.zeros(2, 1, 2, dtype=torch.int64)
    assert loss(logits, labels, top_k=0.5) == pytest.approx((cost(-1) + cost(0)) / 2)


def test_a_batch_without_labels_costs_nothing() -> None:
    labels = torch.full((1, 9, 9), 255)
    for shrinks in (False, True):
        assert loss(torch.randn(1, 2, 2, 2), labels, shrinks_labels=shrinks) == 0.0


def test_the_part_of_hard_pixels_falls_over_the_iterations_that_are_said() -> None:
    # Four pixels; the release: share = ratio * part + (1 - ratio), ratio = iteration / 100.
    margins = torch.tensor([[[-1.0, 0.0, 2.0, 3.0]]]).view(1, 1, 1, 4)
    logits = torch.cat([margins, torch.zeros_like(margins)], dim=1)
    targets = {"sem_seg": torch.zeros(1, 1, 4, dtype=torch.int64)}
    criterion = SemanticCriterion(255, identity_class_map(2), top_k=0.25, hard_after=300)
    costs = [cost(-1), cost(0), cost(2), cost(3)]
    for iteration, kept in ((0, 4), (100, 3), (200, 2), (300, 1), (900, 1)):
        criterion.follow(iteration, 1000)
        losses, _ = criterion([{"semantic_logits": logits}], targets)
        assert losses["loss_semantic"].item() == pytest.approx(sum(costs[:kept]) / kept)


def test_class_weights_weigh_the_mean() -> None:
    # Class 0 is ahead by 2 everywhere: its pixels cost cost(2), the one of class 1 cost(-2).
    logits = torch.tensor([[[[2.0, 2.0, 2.0, 2.0]], [[0.0, 0.0, 0.0, 0.0]]]])
    labels = torch.tensor([[[0, 0, 1, 255]]])
    expected = (2 * 0.5 * cost(2) + 4.0 * cost(-2)) / (2 * 0.5 + 4.0)
    assert loss(logits, labels, class_weights=(0.5, 4.0)) == pytest.approx(expected)
    # Weighted before the hardest half, two of four pixels, is chosen.
    weighted = (2.0 * cost(2) + 2.0 * cost(2)) / 2
    assert loss(logits, labels, class_weights=(2.0, 0.01), top_k=0.5) == pytest.approx(weighted)


def test_pixels_of_classes_of_weight_0_do_not_count() -> None:
    logits = torch.tensor([[[[2.0, 2.0]], [[0.0, 0.0]]]])
    labels = torch.tensor([[[0, 1]]])
    assert loss(logits, labels, class_weights=(1.0, 0.0)) == pytest.approx(cost(2))
    assert loss(logits, labels * 0 + 1, class_weights=(1.0, 0.0)) == 0.0


def test_class_weights_of_another_number_are_refused() -> None:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        cfg.MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS = weights
        with pytest.raises(ValueError, match="DEEPLAB.CLASS_WEIGHTS must be .*NUM_CLASSES"):
            check_config(cfg)
    cfg.MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS = [0.0, 3.0]
    check_config(cfg)
    criterion = SemanticCriterion.from_config(cfg, shrinks_labels=False)
    assert criterion.class_weights == (0.0, 3.0)


def test_the_correction_takes_the_weights_off_the_odds_that_they_taught() -> None:
    # Where class 1 is there in a third of equal pixels, the loss is least at odds of 1 to 2; with a
    # weight of 4, at 4 to 2. The correction at 1 gives 1 to 2 again, at 1/2 the root between.
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS = [1.0, 4.0]
    labels = torch.tensor([[[0, 0, 1]]])
    learned = torch.tensor([0.0, math.log(4 / 2)])
    for step in (-0.1, 0.1):
        worse = learned + torch.tensor([0.0, step])
        both = [v.view(1, 2, 1, 1).expand(1, 2, 1, 3) for v in (learned, worse)]
        least, more = (loss(v, labels, class_weights=(1.0, 4.0)) for v in both)
        assert least < more
    sample = {"height": 1, "width": 3}
    images = ImageBatch(torch.zeros(1, 3, 1, 3), [(1, 3)])
    prediction = {"semantic_logits": learned.view(1, 2, 1, 1).expand(1, 2, 1, 3)}
    for correction, odds in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):
        cfg.MODEL.DEEPLAB2.DEEPLAB.WEIGHT_CORRECTION = correction
        check_config(cfg)
        (output,) = SemanticInference.from_config(cfg)(prediction, images, [sample])
        scores = output["sem_seg"]
        assert (scores[1] - scores[0]).exp().tolist() == [pytest.approx([odds] * 3)]
    cfg.MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS = []
    with pytest.raises(ValueError, match="DEEPLAB.WEIGHT_CORRECTION must be in .0, 1"):
        check_config(cfg)
