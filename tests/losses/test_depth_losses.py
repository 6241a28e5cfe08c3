import math

import pytest
import torch

from deeplab2_d2.losses import depth_loss, relative_squared_error, silog_error


def test_worked_example_with_an_unknown_pixel():
    # Known depths 1 and 4, predicted 2 and 4: log errors -log 2 and 0; relative errors -1 and 0.
    prediction, target = torch.tensor([[2.0, 4.0, 7.0]]), torch.tensor([[1.0, 4.0, 0.0]])
    variance = math.log(2.0) ** 2 / 4
    torch.testing.assert_close(silog_error(prediction, target), torch.tensor([variance]))
    root = math.sqrt(0.5)
    torch.testing.assert_close(relative_squared_error(prediction, target), torch.tensor([root]))
    torch.testing.assert_close(depth_loss(prediction, target), torch.tensor([variance + root]))


def test_image_without_depth_has_the_chosen_loss_and_no_gradient():
    prediction = torch.tensor([[2.0, 4.0], [3.0, 3.0]], requires_grad=True)
    target = torch.tensor([[1.0, 4.0], [0.0, 0.0]])
    loss = depth_loss(prediction, target)
    loss.sum().backward()
    assert loss[1].item() == 0.0
    assert prediction.grad[1].tolist() == [0.0, 0.0]
    assert torch.isfinite(prediction.grad).all()
    assert math.isnan(depth_loss(prediction, target, empty_value=math.nan)[1].item())


def test_ignored_predictions_may_be_anything():
    prediction = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    loss = depth_loss(prediction, torch.tensor([[1.0, 0.0, 0.0]]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert prediction.grad[0, 1:].tolist() == [0.0, 0.0]


def test_exact_prediction_has_a_finite_gradient():
    prediction = torch.ones(1, 2, requires_grad=True)
    depth_loss(prediction, torch.ones(1, 2)).sum().backward()
    assert prediction.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("loss", [silog_error, relative_squared_error, depth_loss])
def test_gradients_are_right(loss):
    torch.manual_seed(0)
    prediction = torch.rand(2, 5, dtype=torch.float64) + 0.5
    prediction.requires_grad_()
    target = torch.rand(2, 5, dtype=torch.float64) + 0.5
    target[0, 2] = 0.0
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (prediction,))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="target must be"):
        depth_loss(torch.ones(1, 2), torch.ones(1, 3))
