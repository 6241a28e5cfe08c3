import math

import pytest
import torch

from deeplab2_d2.solver import KerasAdam, KerasAdamW, KerasSGD


def _run(optimizer_class, start, gradients, rates, **options):
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = optimizer_class([weight], lr=rates[0], **options)
    for gradient, rate in zip(gradients, rates):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return weight.item(), optimizer


def _adam_by_hand(start, gradients, rates, eps, decay=0.0):
    # Keras: the rate carries the bias correction, epsilon stands beside sqrt(v).
    weight, first, second = start, 0.0, 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates), 1):
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        weight -= rate * decay * weight
        corrected = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weight -= corrected * first / (math.sqrt(second) + eps)
    return weight


GRADIENTS = [2e-7, -1e-7, 3e-8, 5e-7]
RATES = [0.1, 0.2, 0.05, 0.01]


def test_adam_adds_epsilon_where_keras_does():
    # Gradients as small as epsilon: torch.optim.Adam moves several times less or more.
    expected = _adam_by_hand(1.0, GRADIENTS, RATES, 1e-7)
    actual, _ = _run(KerasAdam, 1.0, GRADIENTS, RATES, eps=1e-7)
    other, _ = _run(torch.optim.Adam, 1.0, GRADIENTS, RATES, eps=1e-7)
    assert actual == pytest.approx(expected, rel=1e-12)
    assert abs(other - expected) > 0.01


def test_adamw_shrinks_weights_before_adams_step():
    expected = _adam_by_hand(1.0, GRADIENTS, RATES, 1e-7, decay=0.5)
    actual, _ = _run(KerasAdamW, 1.0, GRADIENTS, RATES, eps=1e-7, weight_decay=0.5)
    assert actual == pytest.approx(expected, rel=1e-12)


def test_adam_decay_is_the_gradient_of_an_l2_loss():
    # d / 2 * w^2 has the gradient d * w.
    gradients, weight = [], 1.0
    for gradient, rate in zip(GRADIENTS, RATES):
        gradients.append(gradient + 1e-7 * weight)
        weight = _adam_by_hand(1.0, gradients, RATES, 1e-7)
    actual, _ = _run(KerasAdam, 1.0, GRADIENTS, RATES, eps=1e-7, weight_decay=1e-7)
    assert actual == pytest.approx(weight, rel=1e-12)


def test_sgd_momentum_keeps_the_rate_of_its_own_time():
    # v1 = -0.1 * 1; v2 = 0.9 * v1 - 0.01 * 2. w = 5 + v1 + v2.
    actual, _ = _run(KerasSGD, 5.0, [1.0, 2.0], [0.1, 0.01], momentum=0.9)
    assert actual == pytest.approx(5.0 - 0.1 + (-0.09 - 0.02), rel=1e-12)


def test_sgd_adds_decay_to_the_gradient_and_works_without_momentum():
    actual, _ = _run(KerasSGD, 2.0, [1.0], [0.1], weight_decay=0.5)
    assert actual == pytest.approx(2.0 - 0.1 * (1.0 + 0.5 * 2.0), rel=1e-12)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_sgd_refuses_momentum_outside_its_range(momentum):
    with pytest.raises(ValueError, match="momentum must be in"):
        KerasSGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=momentum)


@pytest.mark.parametrize(
    "optimizer_class, options",
    [(KerasAdam, {}), (KerasAdamW, {"weight_decay": 0.1}), (KerasSGD, {"momentum": 0.9})],
)
def test_restored_optimizer_continues_as_if_it_had_not_stopped(optimizer_class, options):
    expected, _ = _run(optimizer_class, 1.0, GRADIENTS, RATES, **options)
    halfway, optimizer = _run(optimizer_class, 1.0, GRADIENTS[:2], RATES[:2], **options)
    weight = torch.nn.Parameter(torch.tensor([halfway], dtype=torch.float64))
    restored = optimizer_class([weight], lr=1.0, **options)
    restored.load_state_dict(optimizer.state_dict())
    for gradient, rate in zip(GRADIENTS[2:], RATES[2:]):
        restored.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        restored.step()
    assert weight.item() == expected


@pytest.mark.parametrize("optimizer_class", [KerasAdam, KerasAdamW, KerasSGD])
def test_weight_without_a_gradient_stays(optimizer_class):
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = optimizer_class(weights, lr=0.1, weight_decay=0.5)
    weights[0].grad = torch.ones(1)
    optimizer.step()
    assert weights[0].item() != 1.0
    assert weights[1].item() == 1.0


@pytest.mark.parametrize("optimizer_class", [KerasAdam, KerasAdamW, KerasSGD])
def test_closure_is_evaluated_with_gradients(optimizer_class):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = optimizer_class([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (weight * 3.0).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert weight.item() < 1.0
