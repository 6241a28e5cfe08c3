import math

import pytest
import torch

from deeplab2_d2.losses import focal_cross_entropy

LOG2 = math.log(2.0)


def test_background_and_the_rest_are_weighed_by_alpha():
    # Uniform logits: every loss is log 2. The last channel is background.
    logits = torch.zeros(1, 2, 2)
    labels = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    loss = focal_cross_entropy(logits, labels, None, alpha=0.75)
    torch.testing.assert_close(loss, torch.tensor([LOG2 * (0.75 + 0.25) / 2]))


def test_gamma_lowers_the_loss_of_easy_elements():
    logits = torch.tensor([[[math.log(3.0)], [0.0]]])
    labels = torch.tensor([[[1.0], [0.0]]])
    loss = focal_cross_entropy(logits, labels, None, alpha=-1.0, gamma=2.0)
    torch.testing.assert_close(loss, torch.tensor([0.25**2 * math.log(4 / 3)]))


def test_elements_of_weight_zero_leave_the_mean():
    logits = torch.zeros(1, 2, 2)
    labels = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    loss = focal_cross_entropy(logits, labels, torch.tensor([[3.0, 0.0]]), alpha=-1.0)
    torch.testing.assert_close(loss, torch.tensor([3 * LOG2]))


def test_gradients_are_right():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.nn.functional.one_hot(torch.randint(3, (2, 4)), 3).movedim(-1, 1).double()
    assert torch.autograd.gradcheck(
        lambda *x: focal_cross_entropy(x[0], labels, x[1], gamma=1.5), (logits, weights)
    )


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="labels must be"):
        focal_cross_entropy(torch.zeros(1, 2, 2), torch.zeros(1, 2), None)
