"""Our optimizers and schedules for the cases of ``parity/training``."""

from typing import Any, Dict, Mapping, Optional

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.solver import build_lr_scheduler, build_optimizer

Arrays = Mapping[str, np.ndarray]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Learning rates, and the values of one kernel after each update."""
    cfg = _config(case["solver_options"])
    # A kernel, so that AdamW decays it.
    layer = nn.Linear(arrays["in/start"].size, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(arrays["in/start"]))
    optimizer = build_optimizer(cfg, layer)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates, values = [], []
    for gradient in arrays["in/gradients"]:
        layer.weight.grad = torch.from_numpy(gradient)[None]
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
        values.append(layer.weight.detach().numpy()[0].copy())
    # The rates reach beyond the end of training.
    layer.weight.grad = None
    while len(rates) < cfg.SOLVER.MAX_ITER + 5:
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return {
        "out/learning_rates": np.array(rates, np.float32),
        "out/values": np.array(values, np.float32),
    }


def _config(options: Dict[str, Any]) -> CfgNode:
    """DeepLab2's solver options, with its defaults, as our config."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.SOLVER.BASE_LR = options["base_learning_rate"]
    cfg.SOLVER.MAX_ITER = options["training_number_of_steps"]
    cfg.SOLVER.WARMUP_ITERS = options.get("warmup_steps", 0)
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    node = cfg.SOLVER.DEEPLAB2
    node.OPTIMIZER = options.get("optimizer", "adam")
    node.SCHEDULE = options.get("learning_policy", "poly")
    node.POLY_POWER = options.get("poly_learning_power", 0.9)
    # DeepLab2's cosine ends at 0 whatever the poly schedule's end is.
    node.END_LR = options.get("poly_end_learning_rate", 0.0) if node.SCHEDULE == "poly" else 0.0
    if node.OPTIMIZER == "adamw":
        cfg.SOLVER.WEIGHT_DECAY = options.get("adamw_weight_decay", 0.0)
    return cfg
