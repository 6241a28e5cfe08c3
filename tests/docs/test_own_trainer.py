"""The page for people with a trainer of their own: its trainer trains and evaluates."""

import logging
import re
from pathlib import Path

import pytest
import torch
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.solver import build_optimizer as build_detectron2_optimizer

from deeplab2_d2.engine import load_config
from deeplab2_d2.solver import KerasAdam, build_lr_scheduler

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_trainer.md").read_text()
CONFIG = ROOT / "configs/Shapes-PanopticSegmentation"
CONFIG = CONFIG / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"


def _config(folder):
    options = ["OUTPUT_DIR", folder, "SOLVER.MAX_ITER", "4", "SOLVER.IMS_PER_BATCH", "2"]
    options += ["SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0"]
    options += ["MODEL.DEVICE", "cpu", "MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"]
    return load_config(str(CONFIG), list(map(str, options)))


@pytest.mark.slow
def test_the_trainer_of_the_page_trains_with_our_solver_and_evaluates(dataset, tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(snippet, names)
    cfg = _config(tmp_path)
    trainer = names["MyTrainer"](cfg)
    assert type(trainer.optimizer) is KerasAdam
    rates = []

    class Watch(HookBase):
        def before_step(self):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer.register_hooks([Watch()])
    trainer.train()
    # Poly: base * (1 - k / 4) ** 0.9 of the steps k = 0 to 3.
    expected = [cfg.SOLVER.BASE_LR * (1 - k / 4) ** 0.9 for k in range(4)]
    assert rates == pytest.approx(expected)
    assert trainer._last_eval_results["panoptic_seg"].keys() >= {"PQ", "SQ", "RQ"}


def test_a_plain_default_trainer_stops(dataset, tmp_path):
    message = "Unknown LR scheduler: DeepLab2LRScheduler"
    assert message in PAGE
    with pytest.raises(ValueError, match=message):
        DefaultTrainer(_config(tmp_path))


def test_our_schedule_over_detectron2s_optimizer_is_told(tmp_path, caplog):
    cfg = _config(tmp_path)
    optimizer = build_detectron2_optimizer(cfg, torch.nn.Linear(2, 1))
    with caplog.at_level(logging.WARNING):
        build_lr_scheduler(cfg, optimizer)
    assert "OPTIMIZER has no effect (got 'adam'): the optimizer is a SGD" in caplog.text
