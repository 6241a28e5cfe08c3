import math
from copy import deepcopy

import pytest
import torch

from deeplab2_d2.solver import LookaheadRAdam, build_optimizer

GRADIENTS = [0.3, -0.2, 0.5, 0.1, -0.4, 0.2, 0.7, -0.1, 0.4, 0.3]
BETA1, BETA2, EPSILON, RATE = 0.9, 0.999, 1e-7, 0.1


def _radam_step(moments, gradient, step):
    """Algorithm 2 of RAdam (arXiv:1908.03265); rectified once the length exceeds 5."""
    moments[0] = BETA1 * moments[0] + (1 - BETA1) * gradient
    moments[1] = BETA2 * moments[1] + (1 - BETA2) * gradient**2
    mean = moments[0] / (1 - BETA1**step)
    longest = 2 / (1 - BETA2) - 1
    length = longest - 2 * step * BETA2**step / (1 - BETA2**step)
    if length <= 5:
        return -RATE * mean
    rectification = math.sqrt(
        (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    )
    adaptive = math.sqrt(1 - BETA2**step) / (math.sqrt(moments[1]) + EPSILON)
    return -RATE * mean * rectification * adaptive


def _by_hand(start, gradients, sync_period, slow_step):
    fast = slow = start
    moments = [0.0, 0.0]
    for step, gradient in enumerate(gradients, 1):
        fast += _radam_step(moments, gradient, step)
        if step % sync_period == 0:
            slow += slow_step * (fast - slow)
            fast = slow
    return fast


def _run(weight, optimizer, gradients):
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    return weight.item()


def _weight(value=1.0):
    return torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))


@pytest.mark.parametrize("sync_period, slow_step", [(6, 0.5), (3, 0.8), (1, 1.0)])
def test_weights_follow_the_formulas_of_radam_and_lookahead(sync_period, slow_step):
    weight = _weight()
    optimizer = LookaheadRAdam([weight], lr=RATE, sync_period=sync_period, slow_step=slow_step)
    expected = _by_hand(1.0, GRADIENTS, sync_period, slow_step)
    assert _run(weight, optimizer, GRADIENTS) == pytest.approx(expected, rel=1e-9)


def test_restored_optimizer_continues_as_if_it_had_not_stopped():
    # Stopped between two synchronisations.
    weight = _weight()
    optimizer = LookaheadRAdam([weight], lr=RATE)
    _run(weight, optimizer, GRADIENTS[:4])
    copy = _weight(weight.item())
    restored = LookaheadRAdam([copy], lr=1.0)
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    expected = _run(weight, optimizer, GRADIENTS[4:])
    assert _run(copy, restored, GRADIENTS[4:]) == expected


def test_weight_without_a_gradient_stays():
    weights = [_weight(), _weight()]
    optimizer = LookaheadRAdam(weights, lr=RATE, sync_period=2)
    _run(weights[0], optimizer, GRADIENTS[:4])
    assert weights[1].item() == 1.0


def test_config_names_it():
    from detectron2.config import get_cfg

    from deeplab2_d2.config import add_deeplab2_config

    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.SOLVER.DEEPLAB2.OPTIMIZER = "radam_lookahead"
    optimizer = build_optimizer(cfg, torch.nn.Linear(2, 1))
    assert type(optimizer) is LookaheadRAdam
    assert optimizer.param_groups[0]["eps"] == 1e-7


@pytest.mark.parametrize("option", [{"sync_period": 0}, {"slow_step": 0.0}, {"slow_step": 1.5}])
def test_options_outside_their_range_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must be"):
        LookaheadRAdam([_weight()], **option)
