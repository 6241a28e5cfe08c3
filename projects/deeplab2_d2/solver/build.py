"""Optimizer and schedule from a config."""

import logging
from typing import Any, Callable, Dict

import torch
from detectron2.config import CfgNode
from torch import nn

from .lookahead import LookaheadRAdam
from .optimizers import KerasAdam, KerasAdamW, KerasSGD
from .parameter_groups import build_parameter_groups
from .schedules import DeepLab2LRScheduler

logger = logging.getLogger(__name__)

OPTIMIZERS: Dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": KerasAdam,
    "adamw": KerasAdamW,
    "sgd": KerasSGD,
    "radam_lookahead": LookaheadRAdam,
}


# Of Adam and its kin; PyTorch's is 1e-8.
KERAS_EPSILON = 1e-7


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """
    Build the optimizer that ``SOLVER.DEEPLAB2.OPTIMIZER`` names, for the trainable parameters.

    ``SOLVER.WEIGHT_DECAY`` is the factor ``d`` of an L2 loss ``d / 2 * sum(w ** 2)`` on kernels
    for all but "adamw": its gradient ``d * w`` is added by the optimizer, after clipping.
    (DeepLab2 builds such losses, but its trainer does not add them to the total.) "adamw" decays
    kernels by it, decoupled. Biases and norms never decay.

    Args:
        cfg: a config with :func:`add_deeplab2_config`'s keys.
        model: the whole model; its backbone's parameters are named ``backbone.*``.

    Raises:
        ValueError: if ``SOLVER.DEEPLAB2.OPTIMIZER`` is unknown or a rate or factor is negative.
    """
    node = cfg.SOLVER.DEEPLAB2
    name = node.OPTIMIZER
    if name not in OPTIMIZERS:
        raise ValueError(
            f"SOLVER.DEEPLAB2.OPTIMIZER must be one of {sorted(OPTIMIZERS)}, got {name!r}"
        )
    groups = build_parameter_groups(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        backbone_multiplier=node.BACKBONE_MULTIPLIER,
    )
    options: Dict[str, Any] = (
        {"momentum": cfg.SOLVER.MOMENTUM} if name == "sgd" else {"eps": KERAS_EPSILON}
    )
    return OPTIMIZERS[name](groups, lr=cfg.SOLVER.BASE_LR, **options)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> DeepLab2LRScheduler:
    """
    Build the schedule of ``SOLVER.DEEPLAB2.SCHEDULE`` over ``SOLVER.MAX_ITER`` iterations.

    Args:
        cfg: see :func:`build_optimizer`.
        optimizer: of that function; another, such as Detectron2's, gets a warning.

    Raises:
        ValueError: if the schedule is unknown.
    """
    node = cfg.SOLVER.DEEPLAB2
    kind = OPTIMIZERS.get(node.OPTIMIZER)
    if isinstance(kind, type) and not isinstance(optimizer, kind):
        logger.warning(
            "config key SOLVER.DEEPLAB2.OPTIMIZER has no effect (got %r): the optimizer is a %s; "
            "deeplab2_d2.solver.build_optimizer makes the one that the config asks for",
            node.OPTIMIZER,
            type(optimizer).__name__,
        )
    return DeepLab2LRScheduler(
        optimizer,
        max_iter=cfg.SOLVER.MAX_ITER,
        schedule=node.SCHEDULE,
        poly_power=node.POLY_POWER,
        end_lr=node.END_LR,
        warmup_iters=cfg.SOLVER.WARMUP_ITERS,
        warmup_factor=cfg.SOLVER.WARMUP_FACTOR if node.SCHEDULE == "step" else 0.0,
        steps=tuple(cfg.SOLVER.STEPS),
        gamma=cfg.SOLVER.GAMMA,
    )
