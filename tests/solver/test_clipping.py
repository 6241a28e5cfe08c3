import pytest
import torch

from deeplab2_d2.solver import clip_gradient_norm


def _parameters(*gradients):
    parameters = []
    for gradient in gradients:
        gradient = None if gradient is None else torch.tensor(gradient)
        size = 1 if gradient is None else gradient.shape
        parameters.append(torch.nn.Parameter(torch.zeros(size)))
        parameters[-1].grad = gradient
    return parameters


def test_all_gradients_are_scaled_by_one_factor():
    # Norm of (3, 4, 12) is 13; clipped to 6.5 everything halves.
    parameters = _parameters([3.0, 4.0], None, [12.0])
    norm = clip_gradient_norm(parameters, 6.5)
    assert norm.item() == 13.0
    assert parameters[0].grad.tolist() == [1.5, 2.0]
    assert parameters[2].grad.tolist() == [6.0]


def test_small_gradients_are_left_alone():
    parameters = _parameters([3.0, 4.0])
    assert clip_gradient_norm(parameters, 6.0).item() == 5.0
    assert parameters[0].grad.tolist() == [3.0, 4.0]


def test_generator_of_parameters_and_no_gradients_are_fine():
    assert clip_gradient_norm((p for p in _parameters(None)), 1.0).item() == 0.0


def test_infinite_gradient_still_makes_the_scaler_skip_the_step():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((weight * float("inf")).sum()).backward()
    scaler.unscale_(optimizer)
    clip_gradient_norm([weight], 1.0)
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 1.0
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan")])
def test_norm_that_is_not_positive_is_refused(max_norm):
    with pytest.raises(ValueError, match="max_norm must be positive"):
        clip_gradient_norm(_parameters([1.0]), max_norm)
