import pytest
import torch

from deeplab2_d2.losses import topk_l1, topk_mse


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
