import math

import pytest
import torch
from detectron2 import solver as detectron2_solver
from detectron2.config import get_cfg

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.solver import DeepLab2LRScheduler, build_lr_scheduler, compute_learning_rate


def _optimizer(*rates):
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def test_warmup_starts_at_zero_and_hands_over_to_the_undelayed_schedule():
    rates = [
        compute_learning_rate(step, base_lr=2.0, max_iter=10, poly_power=2.0, warmup_iters=4)
        for step in range(6)
    ]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0 * 0.6**2, 2.0 * 0.5**2])


def test_poly_falls_to_the_end_rate_and_stays_there():
    options = {"base_lr": 1.0, "max_iter": 4, "poly_power": 1.0, "end_lr": 0.2}
    rates = [compute_learning_rate(step, **options) for step in range(7)]
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_cosine_is_half_way_at_half_time():
    options = {"base_lr": 1.0, "max_iter": 4, "schedule": "cosine"}
    rates = [compute_learning_rate(step, **options) for step in range(6)]
    quarter = 0.5 * (1 + math.cos(math.pi / 4))
    assert rates == pytest.approx([1.0, quarter, 0.5, 1 - quarter, 0.0, 0.0])


def test_groups_keep_their_ratio_above_the_common_end_rate():
    optimizer = _optimizer(1.0, 0.1)
    scheduler = DeepLab2LRScheduler(optimizer, max_iter=2, poly_power=1.0, end_lr=0.02)
    seen = [scheduler.get_last_lr()]
    for _ in range(2):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    assert seen[0] == pytest.approx([1.0, 0.1])
    assert seen[1] == pytest.approx([0.51, 0.06])
    assert seen[2] == pytest.approx([0.02, 0.02])


def test_restored_scheduler_sets_the_rate_of_its_iteration_at_once():
    optimizer = _optimizer(1.0)
    scheduler = DeepLab2LRScheduler(optimizer, max_iter=10)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    other = _optimizer(1.0)
    restored = DeepLab2LRScheduler(other, max_iter=10)
    restored.load_state_dict(scheduler.state_dict())
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] != 1.0
    other.step()
    restored.step()
    assert restored.get_last_lr() == pytest.approx([0.6**0.9])


def test_detectron2_hook_saves_the_schedule():
    from detectron2.engine import hooks

    optimizer = _optimizer(1.0)
    hook = hooks.LRScheduler(optimizer, DeepLab2LRScheduler(optimizer, max_iter=10))
    hook.scheduler.step()
    assert hook.state_dict() == {"last_epoch": 1}


def test_wrong_schedule_and_length_are_refused():
    with pytest.raises(ValueError, match="schedule must be"):
        DeepLab2LRScheduler(_optimizer(1.0), max_iter=10, schedule="stairs")
    with pytest.raises(ValueError, match="schedule must be"):
        compute_learning_rate(1, base_lr=1.0, max_iter=10, schedule="stairs")
    with pytest.raises(ValueError, match="max_iter"):
        DeepLab2LRScheduler(_optimizer(1.0), max_iter=0)


def test_steps_are_those_of_detectron2():
    # The warm-up of Detectron2's R-CNN schedules, then two falls, at every iteration.
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    solver = cfg.SOLVER
    solver.DEEPLAB2.SCHEDULE, solver.LR_SCHEDULER_NAME = "step", "WarmupMultiStepLR"
    solver.MAX_ITER, solver.STEPS, solver.GAMMA = 50, (30, 40), 0.1
    solver.WARMUP_ITERS, solver.WARMUP_FACTOR = 10, 0.1
    rates = []
    for build in (detectron2_solver.build_lr_scheduler, build_lr_scheduler):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
        scheduler = build(cfg, optimizer)
        rates.append([])
        for _ in range(50):
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    assert rates[1] == pytest.approx(rates[0], rel=1e-9)
    assert rates[1][0] == pytest.approx(0.002) and rates[1][45] == pytest.approx(0.0002)
