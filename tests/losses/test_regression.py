import math

import pytest
import torch
import torch.nn.functional as F

from deeplab2_d2.losses import topk_binary_cross_entropy, topk_l1, topk_mse


def test_channels_are_averaged_then_nonzero_pixels():
    # Pixel 0: differences (3, 1), pixel 1: none, pixel 2: (0, 2).
    prediction = torch.tensor([[[[3.0, 5.0, 0.0]], [[1.0, 5.0, 2.0]]]])
    target = torch.tensor([[[[0.0, 5.0, 0.0]], [[0.0, 5.0, 0.0]]]])
    assert topk_l1(prediction, target, None).tolist() == [(2.0 + 1.0) / 2]
    assert topk_mse(prediction, target, None).tolist() == [(5.0 + 2.0) / 2]


def test_weight_zero_removes_a_pixel_from_sum_and_divisor():
    prediction = torch.tensor([[[[2.0, 9.0]]]])
    weights = torch.tensor([[[1.0, 0.0]]])
    assert topk_l1(prediction, torch.zeros_like(prediction), weights).tolist() == [2.0]
    assert topk_mse(prediction, torch.zeros_like(prediction), weights).tolist() == [4.0]


def test_only_the_hardest_pixels_are_kept():
    prediction = torch.tensor([[[[2.0, 9.0, 1.0, 5.0]]]])
    loss = topk_l1(prediction, torch.zeros_like(prediction), None, top_k_percent=0.5)
    assert loss.tolist() == [7.0]


@pytest.mark.parametrize("loss", [topk_l1, topk_mse])
def test_gradients_are_right(loss):
    torch.manual_seed(0)
    prediction = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    weights = torch.rand(2, 3, 3, dtype=torch.float64)
    arguments = (prediction, target, weights)
    assert torch.autograd.gradcheck(lambda *x: loss(*x, top_k_percent=0.6), arguments)


@pytest.mark.parametrize("loss", [topk_l1, topk_mse])
def test_half_precision_is_squared_in_float32(loss):
    prediction = torch.full((1, 1, 1, 2), 300.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(prediction, torch.zeros_like(prediction), torch.ones(1, 1, 2))
    assert value.dtype == torch.float32
    assert value.item() in (300.0, 90000.0)


def test_misfitting_target_and_weights_are_named():
    prediction = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match="target must be"):
        topk_l1(prediction, torch.zeros(1, 1, 3, 3), None)
    with pytest.raises(ValueError, match="weights must be"):
        topk_mse(prediction, prediction, torch.ones(1, 1, 3, 3))


def test_cross_entropy_of_probabilities_by_hand_and_by_logits():
    prediction = torch.tensor([[[[0.5, 0.75, 1.0]]]])
    target = torch.tensor([[[[1.0, 0.25, 1.0]]]])
    # -ln 0.5; -(1/4 ln 3/4 + 3/4 ln 1/4); the last is 0 and does not count.
    expected = (math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)) / 2
    found = topk_binary_cross_entropy(prediction, target, None)
    torch.testing.assert_close(found, torch.tensor([expected]))
    torch.manual_seed(0)
    logits = 4 * torch.randn(2, 1, 3, 4)
    target = torch.rand(2, 1, 3, 4)
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = topk_binary_cross_entropy(logits.sigmoid(), target, torch.ones(2, 3, 4))
    torch.testing.assert_close(found, expected)


def test_a_probability_of_zero_has_a_finite_loss_and_gradient():
    prediction = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    loss = topk_binary_cross_entropy(prediction, torch.tensor([[[[1.0, 0.0]]]]), None)
    assert loss.item() == 100.0
    loss.backward()
    assert prediction.grad.isfinite().all()
